"""``gradwire bench``: what training over the network costs."""

from pathlib import Path
from typing import Annotated

import typer

_MEASURING, _RESULTS = "What to measure", "What becomes of it"

Lines = Annotated[
    list[int] | None,
    typer.Option(
        "--line", help="Only this line; may be given more than once.", rich_help_panel=_MEASURING
    ),
]
Nets = Annotated[
    list[str] | None,
    typer.Option(
        "--net",
        help="Only this net, by its first word; may be given more than once.",
        rich_help_panel=_MEASURING,
    ),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="A look, not a measurement.", rich_help_panel=_MEASURING)
]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds.", rich_help_panel=_MEASURING)]
Seconds = Annotated[
    float,
    typer.Option(
        min=0.0, help="How long each contender runs in a round.", rich_help_panel=_MEASURING
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Measure nothing: take what an earlier run wrote with --json.",
        rich_help_panel=_MEASURING,
    ),
]
Curves = Annotated[
    Path | None,
    typer.Option(
        help="Measure growth curves too, and draw them as PNG files into this folder.",
        rich_help_panel=_RESULTS,
    ),
]
Json = Annotated[
    Path | None,
    typer.Option(
        help="Write figures, raw samples, machine and versions here.", rich_help_panel=_RESULTS
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(help="Draw how far the goals are reached as this PNG.", rich_help_panel=_RESULTS),
]
Page = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        help="Renew the table in this page of Markdown, where it has marks for it.",
        rich_help_panel=_RESULTS,
    ),
]


def bench(
    lines: Lines = None,
    nets: Nets = None,
    quick: Quick = False,  # how options are declared
    rounds: Rounds = 7,
    seconds: Seconds = 0.5,
    earlier: From = None,
    curves: Curves = None,
    json: Json = None,
    plot: Plot = None,
    page: Page = None,
) -> None:
    """Measures what training over the network costs, against the same work done elsewhere."""
    # Whoever runs another command, a server above all, needs nothing of it.
    from gradwire_benchmarks.running import MistakeError, run  # noqa: PLC0415

    try:
        run(
            line_numbers=lines,
            net_names=nets,
            quick=quick,
            num_rounds=rounds,
            burst_seconds=seconds,
            earlier=earlier,
            curves=curves,
            json=json,
            plot=plot,
            page=page,
        )
    except MistakeError as error:
        typer.echo(f"gradwire: {error}", err=True)
        raise typer.Exit(2) from None
