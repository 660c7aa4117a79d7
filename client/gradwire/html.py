"""What notebooks show of models and runs."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from gradwire.history import state_text

if TYPE_CHECKING:
    from gradwire.run import Run

_MAX_POINTS = 300
_WIDTH, _HEIGHT = 320, 60


def table(rows: Sequence[tuple[str, Any]], *, caption: str) -> str:
    """Returns an HTML table of names and values; everything is escaped."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(str(name))}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"<table><caption>{escape(caption)}</caption>{cells}</table>"


def run_html(run: "Run") -> str:
    """Returns a run as HTML: its state, its latest numbers, and the curve of its losses."""
    title = run.display_name
    rows: list[tuple[str, Any]] = [
        *([("name", title)] if title else []),
        ("state", state_text(run.state, run.reason)),
        ("device", run.device),
        ("steps", run.num_steps),
        ("loss", f"{run.mean_loss:.4g}"),
        *((name.replace("_", " "), f"{value:.4g}") for name, value in run.validation.items()),
        ("time", f"{run.elapsed_seconds:.1f} s"),
    ]
    return table(rows, caption=run.name) + _curve(run.losses)


def model_html(model: Any) -> str:
    """Returns a module as HTML: its printout, and a table of its parameters."""
    rows = [
        (name, f"{parameter.dtype} {tuple(parameter.shape)}")
        for name, parameter in model.named_parameters()
    ]
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"<pre>{escape(repr(model))}</pre>" + table(rows, caption=f"{count:,} parameters")


def _curve(losses: Sequence[float]) -> str:
    """Returns the losses as a small curve; those that are not finite are left out."""
    step = max(1, len(losses) // _MAX_POINTS)
    points = [(i, loss) for i, loss in enumerate(losses) if i % step == 0 and abs(loss) < 1e300]
    if len(points) < 2:
        return ""
    low, high = (pick(loss for _, loss in points) for pick in (min, max))
    scale = (_HEIGHT - 4) / (high - low or 1.0)
    path = " ".join(
        f"{i * _WIDTH / (len(losses) - 1):.1f},{_HEIGHT - 2 - (loss - low) * scale:.1f}"
        for i, loss in points
    )
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' aria-label='losses'>"
        f"<polyline points='{path}' fill='none' stroke='currentColor'/></svg>"
    )
