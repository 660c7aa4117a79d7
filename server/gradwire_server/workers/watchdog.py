"""Ends what takes too long: a command of one session must not hold the worker for ever.

One that is over its time is interrupted where Python runs: in a loop of an optimizer, between
the layers that a constructor makes, between the operations of a program. It fails, and the session
goes on. One that does not come back to Python, since a kernel of torch computes for ever, ends the
worker process a little later; the front starts another one, and says of its sessions that they
are lost.
"""

import os
import signal
import threading
import time
from types import FrameType
from typing import Self

import structlog

from gradwire_server.errors import GradwireError, Reason

log = structlog.get_logger(__name__)

EXIT_STATUS = 86
"""What a worker ends with that did not come back from a command."""

_LONGEST_GRACE_SECONDS = 10.0
"""How much later the process is ended if the command was not interrupted, and no more than twice
the limit in all."""

_LOOKS_PER_LIMIT = 8
_LONGEST_WAIT_SECONDS = 1.0


class Watchdog:
    """Watches the commands of the thread that makes it, which must be the main one.

    Args:
        limit_seconds: How long a command may take; 0 for as long as it likes.
    """

    def __init__(self, *, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._grace_seconds = min(limit_seconds, _LONGEST_GRACE_SECONDS)
        self._watched = threading.get_ident()
        self._began: float | None = None
        if limit_seconds:
            signal.signal(signal.SIGALRM, self._interrupt)
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def watch(self) -> Self:
        """Returns what watches a block.

        Raises:
            GradwireError: It took too long; LIMIT_EXCEEDED, raised in the midst of it.
        """
        return self

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._began = None

    def _watch(self) -> None:
        wait_seconds = min(self._limit_seconds / _LOOKS_PER_LIMIT, _LONGEST_WAIT_SECONDS)
        while True:
            time.sleep(wait_seconds)
            over = self._over_seconds()
            if over > self._grace_seconds:
                log.error(
                    "a command does not end; the worker does", limit_seconds=self._limit_seconds
                )
                os._exit(EXIT_STATUS)
            if over > 0:
                # Again and again: something on the way may take the error for its own.
                signal.pthread_kill(self._watched, signal.SIGALRM)

    def _over_seconds(self) -> float:
        began = self._began
        return 0.0 if began is None else time.monotonic() - began - self._limit_seconds

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        # It may have ended since the signal was sent, and the next one begun.
        if self._over_seconds() <= 0:
            return
        raise GradwireError(
            Reason.LIMIT_EXCEEDED,
            f"the command took more than {self._limit_seconds:g} seconds, which "
            "max_command_seconds allows, and was ended. Split it, or make it smaller.",
            metadata={
                "limit": "max_command_seconds",
                "limit_seconds": f"{self._limit_seconds:g}",
            },
        )
