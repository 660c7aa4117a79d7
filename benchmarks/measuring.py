"""Measuring in turns: in a round each contender runs for a while, so all see the same noise."""

from collections.abc import Sequence
from typing import Protocol

Sample = dict[str, float]
"""Seconds by what took them; one step or one call of it."""

STEPS = 100
"""Bursts are multiples of this."""
MAX_STEPS = 5_000


class Contender(Protocol):
    """A way to train."""

    def burst(self, num_steps: int) -> Sample:
        """Takes steps; returns what they took."""
        ...


def measure(
    contenders: Sequence[Contender], *, num_rounds: int, burst_seconds: float
) -> list[Sample]:
    """Returns a sample for each round.

    Args:
        contenders: They take turns, in every other round the other way round.
        num_rounds: How many rounds.
        burst_seconds: About how long each contender runs in a round.
    """
    num_steps = [_warm_up(contender, burst_seconds) for contender in contenders]
    turns = list(zip(contenders, num_steps, strict=True))
    rounds = []
    for number in range(num_rounds):
        sample: Sample = {}
        for contender, steps in turns if number % 2 == 0 else reversed(turns):
            sample |= contender.burst(steps)
        rounds.append(sample)
    return rounds


def _warm_up(contender: Contender, burst_seconds: float) -> int:
    """Runs a contender until nothing is new to it; returns how many steps make a burst."""
    contender.burst(STEPS)
    step_seconds = sum(contender.burst(STEPS).values())
    multiples = round(burst_seconds / step_seconds / STEPS)
    return min(max(multiples, 1) * STEPS, MAX_STEPS)
