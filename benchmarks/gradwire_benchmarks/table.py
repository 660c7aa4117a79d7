"""The table: on the terminal, and in a page of the documentation."""

from pathlib import Path

from rich.table import Table

from gradwire_benchmarks.curves import CURVES
from gradwire_benchmarks.lines import Comparison, Range, Result, Unit
from gradwire_benchmarks.report import Report
from gradwire_server.commands.output import console

HEADINGS = ("#", "work", "with", "figure", "peer", "peer's figure", "comparison", "goal", "reached")

EXPLANATION = (
    "Figures are medians over the rounds; a comparison is of the two in the same round, a median "
    "with its quartiles. Time is that of a step, call or program; 2x the speed is half the time."
)

BEGIN, END = "<!-- figures of `gradwire bench` -->", "<!-- end of figures -->"


def print_table(report: Report) -> None:
    """Prints the table."""
    screen = console()
    for name, value in report.machine.items():
        screen.print(f"[dim]{name:>12}[/dim]  {value}", highlight=False)
    table = Table(header_style="bold")
    for heading, kind in zip(HEADINGS, "nttntnnnt", strict=True):
        is_number = kind == "n"
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    number = 0
    for result in report.results():
        if result.number != number:
            table.add_section()
        number = result.number
        color = {True: "green", False: "red", None: "none"}[result.reached]
        *cells, reached = _cells(result)
        table.add_row(*cells, f"[{color}]{reached}[/{color}]")
    screen.print(table)
    for note in (EXPLANATION, *report.notes()):
        screen.print(note, style="dim", highlight=False)


def markdown(report: Report) -> str:
    """Returns machine, table and pictures of the growth curves as Markdown."""
    machine = [f"{name}: {value}" for name, value in report.machine.items()]
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(_cells(result) for result in report.results())]
    table = ["| " + " | ".join(cells) + " |" for cells in rows]
    pictures = [
        f"![{curve.title}]({curve.picture})" for curve in CURVES if curve.name in report.curves
    ]
    parts = ["; ".join(machine) + ".", "\n".join(table), "\n".join([EXPLANATION, *report.notes()])]
    return "\n\n".join([*parts, *pictures])


def renew_page(path: Path, report: Report) -> None:
    """Puts machine and table into a page, between the lines `BEGIN` and `END`.

    Raises:
        ValueError: The page has no such lines.
        OSError: The page can't be read or written.
    """
    page = path.read_text(encoding="utf-8")
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}; the table goes between them")
    path.write_text(f"{head}{BEGIN}\n\n{markdown(report)}\n\n{END}{tail}", encoding="utf-8")


def _cells(result: Result) -> tuple[str, ...]:
    """Returns a row as text."""
    bound = "≥" if result.comparison is Comparison.SPEED else "≤"
    return (
        str(result.number),
        result.work,
        result.place,
        _figure(result.own, result.unit),
        result.peer,
        _figure(result.others, result.unit) if result.peer != "none" else "",
        _comparison(result),
        "" if result.goal is None else f"{bound} {_amount(result.goal, result)}",
        {True: "yes", False: "no", None: ""}[result.reached],
    )


def _figure(figure: Range, unit: Unit) -> str:
    """Returns a figure with three digits that count."""
    return f"{_digits(figure.median)} {unit}".rstrip()


def _comparison(result: Result) -> str:
    value = result.value
    texts = [_amount(value.median, result)]
    if value.low != value.high:
        texts.append(f"({_digits(value.low)} to {_digits(value.high)})")
    return " ".join(texts)


def _amount(value: float, result: Result) -> str:
    if result.comparison is Comparison.EXCESS:
        return f"{_digits(value)} {result.unit}".rstrip()
    return f"{_digits(value)}x"


def _digits(value: float) -> str:
    """Returns a number with about three digits that count."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"
