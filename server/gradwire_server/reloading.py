"""Files that are read again when they change."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0
"""How long a change may go unnoticed."""

T = TypeVar("T")

_Signature = tuple[tuple[int, int, int], ...]


class Reloaded(Generic[T]):
    """What files say, read again when one of them was changed or replaced.

    Whoever asks looks, at most once in `check_seconds`; there is no thread and no timer. May be
    used from several threads.

    Args:
        what: What it is, for the log.
        paths: The files. Links are followed, so that a swapped link is a change.
        load: Reads the files. Called at once, and what it raises then goes to the caller. What it
            raises later is logged, and what was read before stays in force.
        check_seconds: How long a change may go unnoticed.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        load: Callable[[], T],
        *,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._what = what
        self._paths = tuple(paths)
        self._load = load
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._signature = self._sign()
        self._value = load()
        self._next_check = time.monotonic() + check_seconds

    @property
    def value(self) -> T:
        """What the files say now."""
        if time.monotonic() >= self._next_check and self._lock.acquire(blocking=False):
            try:
                self._look()
                self._next_check = time.monotonic() + self._check_seconds
            finally:
                self._lock.release()
        return self._value

    def _look(self) -> None:
        signature = self._sign()
        if signature == self._signature:
            return
        # A failed reading is not tried again before the next change, nor logged again.
        self._signature = signature
        try:
            self._value = self._load()
        except Exception as error:  # noqa: BLE001  # a mistake in a file must not end the server
            log.error("not reloaded; what was read before stays", what=self._what, error=str(error))
        else:
            log.info("reloaded", what=self._what)

    def _sign(self) -> _Signature:
        found = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)
