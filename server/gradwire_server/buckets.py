"""How times are counted, the same on all floors."""

SECONDS = (
    *(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03),
    *(0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
)
"""Upper bounds in seconds, from what a small command takes to what a call of a run may."""

PHASES = ("queue", "decode", "execute", "encode")
"""What the time of a command goes to."""
