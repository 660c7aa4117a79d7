"""The progress bar of a run, in a terminal or a notebook.

A bar says as much as its line has room for: what matters least goes first.
"""

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from tqdm.auto import tqdm

from gradwire.history import History
from gradwire.v1 import runs_pb2
from gradwire.v1.events import entries

_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{unit}]"
_SHORT_FORMAT = "{l_bar}{bar}| [{unit}]"
"""What there is to tell stands where tqdm has the unit; time left first, as narrow ones are cut."""

_BAR_COLUMNS = 10
_SHORT_BAR_COLUMNS = 5
"""How long a bar is at least, and one in a narrow terminal."""

_CHANGES = {
    ("QUEUED", "WORKER_DIED"): "its worker died; it goes on from its last checkpoint",
    ("QUEUED", "SERVER_RESTARTED"): "the server was restarted; it goes on from its last checkpoint",
    ("RUNNING", "WORKER_DIED"): "running again",
    ("RUNNING", "SERVER_RESTARTED"): "running again",
    ("QUEUED", "LIMIT_EXCEEDED"): "waits until a limit of the server leaves room for it",
    ("QUEUED", "OUT_OF_MEMORY"): "waits until the server has memory for it",
    ("QUEUED", "NOT_READY"): "waits for a worker",
    ("QUEUED", "STORAGE_FAILED"): "waits for the storage of the server",
    ("PAUSED", "SERVER_STOPPED"): "rests until the server is started again",
}
"""What changes of state are, in words, by state and reason."""


class ProgressBar:
    """Shows how a run goes, on stderr.

    Args:
        show: Whether to show anything; None shows it in a terminal and in a notebook.
        title: What stands before the bar of a run without a name; the device if empty.
    """

    def __init__(self, show: bool | None = None, *, title: str = "") -> None:
        self._visible = _is_interactive() if show is None else show
        self._title = title
        self._bar: Any = None
        self._room: tuple[int | None, int] = (None, 0)
        self._level = 0

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
        self._title = started.display_name or self._title
        self._bar = tqdm(
            disable=not self._visible,
            desc=self._title or f"training on {started.device}",
            total=started.num_steps or None,
            initial=history.progress.step,
            unit=_facts(history, []),
            bar_format=_FORMAT,
            dynamic_ncols=True,
        )
        self._lay_out(history)

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:
        """Shows an event; `history` has it already."""
        match event.WhichOneof("event"):
            case "started":
                self.begin(history)
            case "progress" | "validation":
                if self._bar is None:
                    self.begin(history)
                self._lay_out(history)
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
                    self._title = f"{history.state.lower()} {history.reason}".strip()
                self._lay_out(history)
                self._bar.refresh()

    def _lay_out(self, history: History) -> None:
        """Chooses what to say of a run, by how wide the terminal is."""
        bar = self._bar
        if bar.disable:
            return
        columns = bar.format_dict["ncols"]
        layouts = list(_layouts(history, self._title))
        if (columns, len(layouts)) != self._room:
            self._room, self._level = (columns, len(layouts)), 0
        # What did not fit once stays away, though numbers may become shorter: bars hold still.
        level = self._level
        while level < len(layouts) - 1 and columns and layouts[level].num_columns() > columns:
            level += 1
        self._level = level
        layout = layouts[level]
        bar.unit, bar.bar_format = layout.facts, _FORMAT if layout.total else _SHORT_FORMAT
        bar.set_description(layout.title, refresh=False)

    def _write(self, text: str) -> None:
        if self._visible:
            tqdm.write(text, file=sys.stderr)


class _Layout(NamedTuple):
    """What a bar says: before itself, after itself, and how many steps there are if it counts."""

    title: str
    facts: str
    total: int = 0

    def num_columns(self) -> int:
        """Returns how wide it is, with a bar that is long enough."""
        counted = f"{self.total}/{self.total} " if self.total else ""
        least = _BAR_COLUMNS if self.total else _SHORT_BAR_COLUMNS
        return len(f"{self.title}: 100%|| {counted}[{self.facts}]") + least


def _layouts(history: History, title: str) -> Iterator[_Layout]:
    """Yields what might be said of a run, the most first."""
    started, names = history.started, list(history.validation)
    long = title or f"training on {started.device}"
    short = title or started.device
    # Of what evaluations tell, the first metric is more than the loss, which there is anyhow.
    main = [*[name for name in names if name != "validation_loss"], *names][:1]
    both = [name for name in names if name in ("validation_loss", *main)]
    for shown in (*(names[:count] for count in range(len(names), len(both), -1)), both, main):
        yield _Layout(long, _facts(history, shown), started.num_steps)
    for count in (started.num_steps, 0):
        yield _Layout(short, _facts(history, main, brief=True), count)
    yield _Layout(short, _facts(history, [], brief=True))
    yield _Layout(short[:12], _facts(history, [], brief=True, paced=False))


def _facts(history: History, names: list[str], *, brief: bool = False, paced: bool = True) -> str:
    """Returns what is to be told of a run.

    Args:
        history: What is known of it.
        names: Which values of the latest evaluation to tell.
        brief: Whether to spare room for words and digits.
        paced: Whether to tell how fast it is.
    """
    progress, started = history.progress, history.started
    digits = 3 if brief else 4
    passed, left = map(tqdm.format_interval, (progress.elapsed_seconds, progress.remaining_seconds))
    facts = [f"{passed}<{left if started.num_steps and progress.step else '?'}"]
    facts.append(f"epoch {progress.epoch}/{started.num_epochs or '?'}")
    if progress.step:
        facts.append(f"loss {progress.mean_loss:.{digits}g}")
    for name in names:
        words = name.replace("validation_", "val ").replace("_", " ")
        facts.append(f"{words} {history.validation[name]:.{digits}g}")
    if progress.step and paced:
        rate = tqdm.format_sizeof(progress.samples_per_second)
        facts.append(f"{rate}/s" if brief else f"{rate} samples/s")
    return ", ".join(facts)


def _is_interactive() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and hasattr(running, "kernel")
