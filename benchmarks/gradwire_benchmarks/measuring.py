"""Measuring in turns: in a round each contender runs for a while, so all see the same noise."""

from collections.abc import Sequence
from typing import Protocol

Sample = dict[str, float]
"""Seconds by what took them; one step or one call of it."""

STEPS = 100
"""Bursts are multiples of this, if steps are short."""
MAX_STEPS = 5_000


class Contender(Protocol):
    """A way to train."""

    def burst(self, num_steps: int) -> Sample:
        """Takes steps; returns what they took."""
        ...


def measure(
    contenders: Sequence[Contender],
    *,
    num_rounds: int,
    burst_seconds: float,
    least_steps: int = STEPS,
) -> list[Sample]:
    """Returns a sample for each round.

    Args:
        contenders: Each runs first until nothing is new to it; then they take turns.
        num_rounds: How many rounds.
        burst_seconds: About how long each contender runs in a round.
        least_steps: Bursts are multiples of this.
    """
    num_steps = [_warm_up(contender, burst_seconds, least_steps) for contender in contenders]
    return take_turns(list(zip(contenders, num_steps, strict=True)), num_rounds)


def take_turns(turns: Sequence[tuple[Contender, int]], num_rounds: int) -> list[Sample]:
    """Returns a sample for each round.

    Args:
        turns: Who takes how many steps, in every other round the other way round.
        num_rounds: How many rounds.
    """
    rounds = []
    for number in range(num_rounds):
        sample: Sample = {}
        for contender, steps in turns if number % 2 == 0 else reversed(turns):
            sample |= contender.burst(steps)
        rounds.append(sample)
    return rounds


def _warm_up(contender: Contender, burst_seconds: float, least_steps: int) -> int:
    """Runs a contender until nothing is new to it; returns how many steps make a burst."""
    contender.burst(least_steps)
    num_steps = least_steps
    while True:
        step_seconds = sum(contender.burst(num_steps).values())
        multiples = max(round(burst_seconds / step_seconds / least_steps), 1)
        # What begins and ends a burst counts the less for each step, the more steps it has.
        before, num_steps = num_steps, min(multiples * least_steps, MAX_STEPS)
        if num_steps <= 2 * before:
            return num_steps
