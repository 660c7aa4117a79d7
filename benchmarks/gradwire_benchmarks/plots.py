"""Plots, by matplotlib: the lines of the table, and growth curves."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradwire_benchmarks.curves import Curve, Points
from gradwire_benchmarks.lines import Comparison, Result, spread
from gradwire_benchmarks.plan import LeftOutError

DOTS_PER_INCH = 110
COLORS = ("tab:blue", "tab:orange", "tab:green")


def require_matplotlib() -> None:
    """Raises if plots can't be drawn.

    Raises:
        LeftOutError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise LeftOutError("matplotlib is not installed; pip install 'gradwire[bench]'")


def plot_curve(curve: Curve, points: Points, path: Path) -> None:
    """Draws a growth curve: medians, with the quartiles as a band; floors are dashed.

    Args:
        curve: The curve.
        points: What was measured.
        path: The PNG file.
    """
    figure, axes = _figure(6.4, 4.2)
    floors = iter(COLORS)
    own = iter(COLORS)
    for series in curve.series:
        ranges = [
            spread([1000 * sum(sample[key] for key in series.keys) for sample in rounds])
            for rounds in points.values()
        ]
        color = next(floors if series.is_floor else own)
        style = {"linestyle": "--", "linewidth": 1.2} if series.is_floor else {"marker": "o"}
        medians = [each.median for each in ranges]
        axes.plot(list(points), medians, label=series.label, color=color, markersize=4, **style)
        axes.fill_between(
            list(points),
            [each.low for each in ranges],
            [each.high for each in ranges],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xscale="log", yscale="log", xlabel=curve.axis, ylabel=curve.times)
    axes.set_title(curve.title, fontsize=10)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)


def plot_results(results: Sequence[Result], path: Path) -> None:
    """Draws how far each goal is reached: 1 is the goal, to the right of it is better.

    Args:
        results: Those without a goal, or whose goal is zero, are not drawn.
        path: The PNG file.
    """
    drawn = [result for result in results if result.goal]
    figure, axes = _figure(8.0, 0.9 + 0.24 * len(drawn))
    for row, result in enumerate(drawn):
        low, median, high = _attained(result)
        color = "tab:green" if result.reached else "tab:red"
        axes.plot([low, high], [row, row], color=color, alpha=0.5, linewidth=3)
        axes.plot([median], [row], marker="o", color=color, markersize=5)
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(
        range(len(drawn)),
        [f"{each.number}  {each.work}, {each.place}" for each in drawn],
        fontsize=7,
    )
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="goal = 1, more is better; medians and quartiles")
    axes.grid(visible=True, axis="x", which="both", alpha=0.25)
    _save(figure, path)


def _attained(result: Result) -> tuple[float, float, float]:
    """Returns which part of the goal was reached: low, median, high."""
    goal, value = result.goal or 1.0, result.value
    if result.comparison is Comparison.SPEED:
        return value.low / goal, value.median / goal, value.high / goal
    return goal / value.high, goal / value.median, goal / value.low


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """Returns a figure and its axes; no window system is asked."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # only who plots needs it

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
