"""The events of a run, kept for those who follow it and for those who ask again."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, PendingStream


class EventLog:
    """Records the frames that answer one streaming call, and lets any number follow them.

    Args:
        stream: The call.
        lost: What followers are told if the worker dies.
        max_bytes: How many bytes of events to keep; the oldest are forgotten.
    """

    def __init__(
        self, stream: PendingStream, lost: GradwireError, *, max_bytes: int = 16 * 1024 * 1024
    ) -> None:
        self._stream = stream
        self._lost = lost
        self._max_bytes = max_bytes
        self._events: deque[Frame] = deque()
        self._num_forgotten = 0
        self._num_bytes = 0
        self._last: Frame | GradwireError | None = None
        self._news = asyncio.Event()
        self._num_followers = 0
        self.task = asyncio.create_task(self._record())
        """Done when the call has ended."""

    @property
    def num_events(self) -> int:
        """How many events there were."""
        return self._num_forgotten + len(self._events)

    @property
    def last(self) -> Frame | GradwireError | None:
        """How the call ended: END, FAILURE, or an error; none if it has not."""
        return self._last

    async def follow(self) -> AsyncGenerator[Frame, None]:
        """Yields all events from the first on, then END or FAILURE.

        The call is cancelled when the last follower has gone before its end.

        Raises:
            GradwireError: The worker died, or events were forgotten before they were followed.
        """
        position = 0
        self._num_followers += 1
        try:
            while True:
                news = self._news
                while position < self.num_events:
                    if position < self._num_forgotten:
                        raise _too_slow(self._max_bytes)
                    yield self._events[position - self._num_forgotten]
                    position += 1
                if isinstance(self._last, GradwireError):
                    raise self._last.with_traceback(None)
                if self._last is not None:
                    yield self._last
                    return
                await news.wait()
        finally:
            self._num_followers -= 1
            if not self._num_followers and self._last is None:
                self._stream.cancel()

    async def _record(self) -> None:
        try:
            async for frame in self._stream:
                if frame.kind is FrameKind.EVENT:
                    self._append(frame)
                else:
                    self._last = frame
                self._tell()
        except LinkLostError:
            self._last = self._lost
            self._tell()

    def _append(self, frame: Frame) -> None:
        self._events.append(frame)
        self._num_bytes += len(frame.payload)
        while self._num_bytes > self._max_bytes and len(self._events) > 1:
            self._num_bytes -= len(self._events.popleft().payload)
            self._num_forgotten += 1

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _too_slow(max_bytes: int) -> GradwireError:
    return GradwireError(
        Reason.LIMIT_EXCEEDED,
        f"The run's events exceed {max_bytes} bytes, and the oldest were dropped before they were "
        "read. Read events faster, or raise report_interval_seconds.",
        metadata={"limit": "event_bytes", "value": str(max_bytes)},
    )
