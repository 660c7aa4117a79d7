"""The numbers of a run as a table of pandas and as a plot; both are extras."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradwire.extras import import_extra

_STEPS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "seconds")
_NO_VALUES = ("validation_step", "validation_epoch")


def to_pandas(history: "Mapping[str, np.ndarray[Any, Any]]") -> Any:
    """Returns a ``DataFrame`` with a row for each step; see `gradwire.runs.Run.to_pandas`."""
    pandas = import_extra("pandas", "plot")
    columns = {name: history[name] for name in _STEPS}
    rows = history["validation_step"] - 1
    for name, values in evaluations(history).items():
        column = np.full(len(history["step"]), np.nan)
        column[rows] = values
        columns[name] = column
    return pandas.DataFrame(columns)


def plot(history: "Mapping[str, np.ndarray[Any, Any]]", *, title: str) -> Any:
    """Returns a figure; see `gradwire.runs.Run.plot`."""
    figure_class = import_extra("matplotlib.figure", "plot").Figure
    figure = figure_class(figsize=(8, 6), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    losses.plot(history["step"], history["loss"], label="loss", linewidth=1, alpha=0.8)
    others = losses.twinx()
    for number, (name, values) in enumerate(evaluations(history).items(), start=1):
        # What measures the same as the training loss shares its scale.
        axes = losses if name.endswith("loss") else others
        label = name.replace("_", " ")
        axes.plot(history["validation_step"], values, "o-", color=f"C{number}", label=label)
    metrics = [line.get_label() for line in others.lines]
    others.set_ylabel(metrics[0] if len(metrics) == 1 else "metrics")
    if not metrics:
        others.remove()
    losses.set(ylabel="loss", title=title)
    losses.grid(alpha=0.3)
    lines = [*losses.get_lines(), *others.get_lines()]
    # Beside the axes: within them it would hide the curves of one scale or the other.
    figure.legend(handles=lines, loc="outside lower center", ncols=4)
    rates.plot(history["step"], history["learning_rate"], color="C7")
    rates.set(xlabel="step", ylabel="learning rate")
    rates.ticklabel_format(axis="y", useOffset=False)
    rates.grid(alpha=0.3)
    return figure


def evaluations(
    history: "Mapping[str, np.ndarray[Any, Any]]",
) -> "dict[str, np.ndarray[Any, Any]]":
    """Returns the values of evaluations by name, without when they were made."""
    return {n: values for n, values in history.items() if n not in (*_STEPS, *_NO_VALUES)}
