"""The progress bar of a run, in a terminal or a notebook."""

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from tqdm.auto import tqdm

from gradwire.history import History
from gradwire.v1 import runs_pb2


class ProgressBar:
    """Shows how a run goes, on stderr.

    Args:
        show: Whether to show anything; None shows it in a terminal and in a notebook.
        title: What stands before the bar; the device if empty.
    """

    def __init__(self, show: bool | None = None, *, title: str = "") -> None:
        visible = _is_interactive() if show is None else show
        self._title = title
        self._bar: Any = tqdm(disable=not visible, unit="step", dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def begin(self, history: History) -> None:
        """Shows how far a run is that has begun."""
        started = history.started
        self._bar.total = started.num_steps or None
        self._bar.set_description(self._title or f"training on {started.device}")
        # What others have waited for does not count for the rate.
        self._bar.initial = history.progress.step
        self._bar.n = history.progress.step
        self._bar.refresh()

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:
        """Shows an event; `history` has it already."""
        bar = self._bar
        match event.WhichOneof("event"):
            case "started":
                self.begin(history)
            case "progress" | "validation":
                bar.update(history.progress.step - bar.n)
                bar.set_postfix_str(", ".join(_facts(history)), refresh=False)
            case "warning":
                bar.write(f"warning: {event.warning.message}", file=sys.stderr)
            case "state_change":
                change = event.state_change
                state = history.state.lower()
                text = f"{state} at step {change.step}: {change.reason}"
                if not bar.disable:
                    bar.write(text, file=sys.stderr)
            case "ended":
                if history.state != "SUCCEEDED" or history.reason:
                    bar.set_description(f"{history.state.lower()} {history.reason}".strip())
                bar.refresh()


def _facts(history: History) -> Iterable[str]:
    progress, started = history.progress, history.started
    yield f"epoch {progress.epoch}/{started.num_epochs}"
    yield f"loss {progress.mean_loss:.4f}"
    for name, value in history.validation.items():
        yield f"{name.replace('_', ' ')} {value:.4f}"
    yield f"{progress.samples_per_second:.0f} samples/s"


def _is_interactive() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and hasattr(running, "kernel")
