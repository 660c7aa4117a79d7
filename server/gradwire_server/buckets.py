"""What workers count and the front shows, the same on both floors."""

SECONDS = (
    *(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03),
    *(0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
)
"""Upper bounds in seconds, from what a small command takes to what a call of a run may."""

PHASES = ("queue", "decode", "execute", "encode")
"""What the time of a command goes to."""

COUNTERS = {
    "command_failures": ("reason", "Commands that failed."),
    "compiled_steps": (
        "outcome",
        "Training steps that were compiled, recorded or checked to that end, or left to torch.",
    ),
    "replayed_steps": (
        "outcome",
        "Training steps that were replayed, recorded or checked to that end, or left to torch.",
    ),
    "training_steps": ("tenant", "Training steps taken; their rate is steps a second."),
}
"""What else is counted, by name: what it is counted by, and what it is. Whatever a worker counts
under such a name is the metric ``gradwire_{name}_total``."""
