"""Event files of TensorBoard, written by its own library; the extra ``tensorboard`` has it."""

import os
from typing import Any

from gradwire.extras import import_extra
from gradwire.history import History
from gradwire.loggers.logger import scalars
from gradwire.v1 import runs_pb2


class TensorBoard:
    """Writes the numbers of a run as event files; ``tensorboard --logdir FOLDER`` shows them.

    The tags are the names in ``Run.history``, such as ``loss``, ``learning_rate`` and
    ``validation_loss``; the times are those of the server. A folder is for one run: what is
    written later, by another program that follows the run, takes the place of what was there.

    Args:
        folder: Where the files go; it is made if need be.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        package = "tensorboard.summary.writer.event_file_writer"
        self._writers = import_extra(package, "tensorboard")
        self._events = import_extra("tensorboard.compat.proto.event_pb2", "tensorboard")
        self._summaries = import_extra("tensorboard.compat.proto.summary_pb2", "tensorboard")
        self._folder = os.fspath(folder)
        self._writer: Any = None

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:  # noqa: ARG002
        """Writes the numbers that an event brings."""
        seconds = event.time.ToNanoseconds() / 1e9
        if self._writer is None:
            self._writer = self._writers.EventFileWriter(self._folder)
            # Readers then forget the steps from earlier files of the folder.
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._add(wall_time=seconds, step=1, session_log=start)
        for step, name, value in scalars(event):
            number = self._summaries.Summary.Value(tag=name, simple_value=value)
            summary = self._summaries.Summary(value=[number])
            self._add(wall_time=seconds, step=step, summary=summary)
        if event.WhichOneof("event") in {"progress", "validation"}:
            self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, **fields: Any) -> None:
        self._writer.add_event(self._events.Event(**fields))
