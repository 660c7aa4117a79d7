"""The table for people and the file for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.lines import Range, Result
from benchmarks.measuring import Sample

LEAST_WIDTH = 100
"""The table is cut off in fewer columns; a pipe has 80."""

EXPLANATION = (
    "x local: steps per second over those of the local eager loop, or for large tensors over those "
    "of bare gRPC. x floor: time over that of bare gRPC calls of as many bytes plus the same work "
    "done locally. Both are of the same round; medians over the rounds, with half of what lies "
    "between the quartiles. The batch lies with the net, but goes along with each Forward and "
    "ComputeLoss of the unary verbs."
)


def print_table(results: Sequence[Result], machine: Mapping[str, str]) -> None:
    """Prints the table."""
    console = Console(width=max(Console().width, LEAST_WIDTH))
    for name, value in machine.items():
        console.print(f"[dim]{name:>10}[/dim]  {value}", highlight=False)
    table = Table(header_style="bold")
    table.add_column("work", no_wrap=True)
    for heading in ("ms", "per second", "x local", "x floor", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    net = ""
    for result in results:
        if result.net != net:
            table.add_section()
            table.add_row(f"[bold]{result.net}[/bold]")
        table.add_row(
            result.work,
            f"{result.milliseconds.median:.3f}",
            f"{1000 / result.milliseconds.median:.0f}",
            _ratio(result.speed),
            _ratio(result.times_floor),
            _goal(result),
        )
        net = result.net
    console.print(table)
    console.print(f"[dim]{EXPLANATION}[/dim]")


def write_json(
    path: Path,
    *,
    results: Sequence[Result],
    rounds: Mapping[str, Sequence[Sample]],
    machine: Mapping[str, str],
) -> None:
    """Writes all there is to know.

    Args:
        path: The file.
        results: The lines of the table.
        rounds: By net, the seconds of each thing measured in each round.
        machine: What it was measured on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine,
        "results": [asdict(result) for result in results],
        "rounds": rounds,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _ratio(ratio: Range | None) -> str:
    if ratio is None:
        return ""
    spread = (ratio.high - ratio.low) / 2 / ratio.median
    return f"{ratio.median:.2f} ±{spread:.0%}"


def _goal(result: Result) -> str:
    if result.reached is None:
        return ""
    mark = "[green]✓[/green]" if result.reached else "[red]✗[/red]"
    return f"{result.goal} {mark}"
