"""The progress bar of a run, in a terminal or a notebook."""

import sys
from types import TracebackType
from typing import Any, Self

from tqdm.auto import tqdm

from gradwire.history import History
from gradwire.v1 import runs_pb2
from gradwire.v1.events import entries

_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{unit}]"
"""What there is to tell stands where tqdm has the unit; time left first, as narrow ones are cut."""

_CHANGES = {
    ("QUEUED", "WORKER_DIED"): "its worker died; it goes on from its last checkpoint",
    ("QUEUED", "SERVER_RESTARTED"): "the server was restarted; it goes on from its last checkpoint",
    ("RUNNING", "WORKER_DIED"): "running again",
    ("RUNNING", "SERVER_RESTARTED"): "running again",
    ("PAUSED", "SERVER_STOPPED"): "rests until the server is started again",
}
"""What changes of state are, in words, by state and reason."""


class ProgressBar:
    """Shows how a run goes, on stderr.

    Args:
        show: Whether to show anything; None shows it in a terminal and in a notebook.
        title: What stands before the bar; the device if empty.
    """

    def __init__(self, show: bool | None = None, *, title: str = "") -> None:
        self._visible = _is_interactive() if show is None else show
        self._title = title
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, history: History) -> None:
        """Shows how far a run is that has begun."""
        started = history.started
        self._bar = tqdm(
            disable=not self._visible,
            desc=self._title or f"training on {started.device}",
            total=started.num_steps or None,
            initial=history.progress.step,
            unit=_facts(history),
            bar_format=_FORMAT,
            dynamic_ncols=True,
        )

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:
        """Shows an event; `history` has it already."""
        match event.WhichOneof("event"):
            case "started":
                self.begin(history)
            case "progress" | "validation":
                if self._bar is None:
                    self.begin(history)
                self._bar.unit = _facts(history)
                self._bar.update(history.progress.step - self._bar.n)
            case "warning":
                for warning in entries(event.warning):
                    self._write(f"warning: {warning.message}")
            case "state_change":
                state, reason = history.state, history.reason
                words = _CHANGES.get((state, reason), state.lower())
                self._write(f"after step {event.state_change.step}: {words}")
            case "ended":
                if self._bar is None:
                    self.begin(history)
                if history.state != "SUCCEEDED" or history.reason:
                    self._bar.set_description(f"{history.state.lower()} {history.reason}".strip())
                self._bar.refresh()

    def _write(self, text: str) -> None:
        if self._visible:
            tqdm.write(text, file=sys.stderr)


def _facts(history: History) -> str:
    progress, started = history.progress, history.started
    passed, left = map(tqdm.format_interval, (progress.elapsed_seconds, progress.remaining_seconds))
    facts = [f"{passed}<{left if started.num_steps else '?'}"]
    facts.append(f"epoch {progress.epoch}/{started.num_epochs or '?'}")
    facts.append(f"loss {progress.mean_loss:.4g}")
    for name, value in history.validation.items():
        facts.append(f"{name.replace('validation_', 'val ').replace('_', ' ')} {value:.4g}")
    facts.append(f"{tqdm.format_sizeof(progress.samples_per_second)} samples/s")
    return ", ".join(facts)


def _is_interactive() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and hasattr(running, "kernel")
