"""Calls in flight, so that a server that stops can let them finish."""

import asyncio
from collections.abc import Callable

from gradwire_server.errors import GradwireError, Reason

RETRY_AFTER_SECONDS = 1.0


class Traffic:
    """Counts calls; once it is closed it refuses new ones."""

    def __init__(self) -> None:
        self.num_calls = 0
        self._refusal: GradwireError | None = None
        self._idle = asyncio.Event()
        self._on_close: set[Callable[[GradwireError], None]] = set()

    @property
    def closed(self) -> bool:
        """Whether new calls are refused."""
        return self._refusal is not None

    def enter(self) -> None:
        """Counts a call that begins.

        Raises:
            GradwireError: SHUTTING_DOWN once closed.
        """
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        self.num_calls += 1

    def leave(self) -> None:
        """Counts a call that ends."""
        self.num_calls -= 1
        if self._refusal is not None and not self.num_calls:
            self._idle.set()

    def watch_close(self, callback: Callable[[GradwireError], None]) -> Callable[[], None]:
        """Has `callback` called when calls are refused; returns what undoes that."""
        self._on_close.add(callback)
        return lambda: self._on_close.discard(callback)

    def close(self, refusal: GradwireError) -> GradwireError:
        """Refuses calls from now on with an error; returns that."""
        self._refusal = refusal
        if not self.num_calls:
            self._idle.set()
        for callback in tuple(self._on_close):
            callback(refusal)
        return refusal

    async def idle(self) -> None:
        """Waits until no call is left, after `close`."""
        await self._idle.wait()


def shutting_down() -> GradwireError:
    """Returns the error for a server that stops."""
    return GradwireError(
        Reason.SHUTTING_DOWN,
        "The server is shutting down and takes no new calls; try again at another, or later.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def cut_off() -> GradwireError:
    """Returns the error for calls that a server that stops cannot wait for."""
    return GradwireError(
        Reason.SHUTTING_DOWN,
        "The server shut down before the call was finished, and its sessions are gone.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
