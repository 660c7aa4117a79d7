"""What was measured, as a file for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gradwire_benchmarks.curves import Points
from gradwire_benchmarks.lines import LINES, Line, Measured, Result

FORMAT = 1
"""Of the file; files of another format are refused."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was measured in one run.

    Attributes:
        machine: What it was measured on, for people.
        measured: The samples of the lines.
        curves: The samples of the growth curves, by their name.
    """

    machine: dict[str, str]
    measured: Measured
    curves: dict[str, Points] = field(default_factory=dict)

    def results(self, lines: Sequence[Line] = LINES) -> list[Result]:
        """Returns what became of each line that was measured."""
        return self.measured.results(lines)

    def notes(self) -> list[str]:
        """Returns a sentence for each suite that was left out."""
        return [
            f"Line {', '.join(numbers_of(suite))} is left out: {reason}."
            for suite, reason in self.measured.left_out.items()
        ]

    def write(self, path: Path) -> None:
        """Writes it as JSON: figures, raw samples in seconds, bytes or counts, and the machine."""
        content = {
            "format": FORMAT,
            "machine": self.machine,
            "results": [asdict(result) for result in self.results()],
            "rounds": self.measured.rounds,
            "left_out": self.measured.left_out,
            "curves": self.curves,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Returns what a file says; figures are computed anew from the samples.

        Raises:
            ValueError: It is no such file.
            OSError: It can't be read.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}, not {FORMAT}")
            curves = {
                name: {int(value): rounds for value, rounds in points.items()}
                for name, points in content["curves"].items()
            }
            return cls(
                machine=content["machine"],
                measured=Measured(rounds=content["rounds"], left_out=content["left_out"]),
                curves=curves,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} has no results of `gradwire bench`: {error}") from None


def numbers_of(suite: str) -> list[str]:
    """Returns the numbers of a suite's lines."""
    return sorted({str(line.number) for line in LINES if line.suite == suite})
