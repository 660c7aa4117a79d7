"""What is to be measured, and how thoroughly."""

from collections.abc import Sequence
from dataclasses import dataclass

from gradwire_benchmarks.lines import LINES, Line
from gradwire_benchmarks.measuring import STEPS, Contender, Sample, measure
from gradwire_benchmarks.nets import NETS, Net


class LeftOutError(Exception):
    """Something can't be measured here; the message says why, and what would help."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured, and how thoroughly.

    Attributes:
        lines: What to fill.
        nets: Where nets take turns.
        num_rounds: How many rounds.
        burst_seconds: About how long each contender runs in a round.
        quick: Whether it is a look at whether everything works: few sessions, nothing compiled.
    """

    lines: tuple[Line, ...] = LINES
    nets: tuple[Net, ...] = NETS
    num_rounds: int = 7
    burst_seconds: float = 0.5
    quick: bool = False

    def wants(self, suite: str, *names: str) -> bool:
        """Returns whether a line of a suite needs any of these in samples.

        Args:
            suite: The suite.
            names: Names in samples, or the first words of them.
        """
        keys = [key for line in self.lines if line.suite == suite for key in line.keys]
        return any(key == name or key.startswith(f"{name} ") for key in keys for name in names)

    def measure(
        self,
        contenders: Sequence[Contender],
        *,
        least_steps: int = STEPS,
        most_rounds: int | None = None,
    ) -> list[Sample]:
        """Returns a sample for each round.

        Args:
            contenders: See `measure`.
            least_steps: See `measure`.
            most_rounds: Of how many rounds there are no more; None for as many as are planned.
        """
        return measure(
            contenders,
            num_rounds=min(self.num_rounds, most_rounds or self.num_rounds),
            burst_seconds=self.burst_seconds,
            least_steps=least_steps,
        )
