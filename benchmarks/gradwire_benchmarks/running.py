"""Runs the benchmarks: measures, and puts what came out where it is wanted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gradwire_benchmarks.curves import CURVES, measure_curves
from gradwire_benchmarks.lines import LINES, NUMBERS
from gradwire_benchmarks.machine import describe, describe_worker
from gradwire_benchmarks.nets import NETS, find_net
from gradwire_benchmarks.plan import LeftOutError, Plan
from gradwire_benchmarks.plots import plot_curve, plot_results, require_matplotlib
from gradwire_benchmarks.report import Report
from gradwire_benchmarks.server import forget_servers
from gradwire_benchmarks.suites import measure_lines
from gradwire_benchmarks.table import print_table, renew_page
from gradwire_benchmarks.workbench import Workbench


class MistakeError(Exception):
    """What was asked for can't be done; the message says why."""


def run(
    *,
    line_numbers: Sequence[int] | None = None,
    net_names: Sequence[str] | None = None,
    quick: bool = False,
    num_rounds: int = 7,
    burst_seconds: float = 0.5,
    earlier: Path | None = None,
    curves: Path | None = None,
    json: Path | None = None,
    plot: Path | None = None,
    page: Path | None = None,
) -> None:
    """Measures, prints the table, writes the files.

    Args:
        line_numbers: Which lines; None for all.
        net_names: Which nets, by the first words of their names; None for all.
        quick: Whether it is only a look at whether everything works.
        num_rounds: How many rounds.
        burst_seconds: About how long each contender runs in a round.
        earlier: A file with earlier results: nothing is measured.
        curves: The folder for growth curves; None for none.
        json: The file for results; None for none.
        plot: The file for a plot of the lines; None for none.
        page: The page of Markdown to renew; None for none.

    Raises:
        MistakeError: What was asked for is not there, or a file can't be used.
    """
    with _telling():
        if plot is not None or curves is not None:
            require_matplotlib()
        report = None if earlier is None else Report.read(earlier)
        plan = make_plan(line_numbers, net_names, quick, num_rounds, burst_seconds)
    if report is None:
        report = measure_all(plan, with_curves=curves is not None)
    print_table(report)
    with _telling():
        if json is not None:
            report.write(json)
        if plot is not None:
            plot_results(report.results(), plot)
        if curves is not None:
            for curve in CURVES:
                if curve.name in report.curves:
                    plot_curve(curve, report.curves[curve.name], curves / curve.picture)
        if page is not None:
            renew_page(page, report)


@contextmanager
def _telling() -> Iterator[None]:
    """Makes mistakes of whoever asked of what is raised in the block."""
    try:
        yield
    except (LeftOutError, OSError, ValueError) as error:
        raise MistakeError(str(error)) from error


def make_plan(
    line_numbers: Sequence[int] | None,
    net_names: Sequence[str] | None,
    quick: bool,
    num_rounds: int,
    burst_seconds: float,
) -> Plan:
    """Returns what is to be measured.

    Raises:
        ValueError: There is no such line or net.
    """
    numbers = set(line_numbers or NUMBERS)
    if unknown := numbers - set(NUMBERS):
        raise ValueError(f"there is no line {min(unknown)}; there are 1 to {max(NUMBERS)}")
    return Plan(
        lines=tuple(line for line in LINES if line.number in numbers),
        nets=tuple(map(find_net, net_names)) if net_names else NETS,
        num_rounds=1 if quick else num_rounds,
        burst_seconds=0.0 if quick else burst_seconds,
        quick=quick,
    )


def measure_all(plan: Plan, *, with_curves: bool) -> Report:
    """Measures what a plan says."""
    forget_servers()
    machine = describe()
    with Workbench(plan) as bench:
        measured = measure_lines(bench)
        curves = dict(measure_curves(bench)) if with_curves else {}
        if bench.worker is not None:
            machine["worker"] = describe_worker(bench.worker)
    return Report(machine=machine, measured=measured, curves=curves)
