"""The log of a run's events: numbered, durable before anybody sees them, followed by many.

Events are kept in segments, the objects ``runs/{run}/events/{number of the first event}``, each a
sequence of messages `gradwire.v1.RunEvent`, every one after its length as a varint. The last
segment is written anew, in one instant, with every batch of events until it is large. This needs
nothing of the storage but that, so it works the same on a disk and on an object store.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from io import BytesIO

import structlog
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from gradwire.v1 import runs_pb2
from gradwire_server.errors import GradwireError
from gradwire_server.storage import Storage

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 128 * 1024
"""A segment that is larger gets no more events."""
RECENT_EVENTS = 256
"""How many of the latest events stay in memory for those who follow."""
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 5.0


class EventLog:
    """The events of one run.

    Args:
        storage: Where they are kept.
        run: ``runs/{run}``.
    """

    def __init__(self, storage: Storage, run: str) -> None:
        self._storage = storage
        self._folder = f"{run}/events"
        self._segments: list[int] = []
        self._tail = b""
        self._recent: deque[runs_pb2.RunEvent] = deque(maxlen=RECENT_EVENTS)
        self._pending: list[runs_pb2.RunEvent] = []
        self._next_number = 1
        self._news = asyncio.Event()
        self._written = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.last_number = 0
        """The number of the last event that is durable."""
        self.closed = False
        """Whether there will be no more events."""

    def append(self, event: runs_pb2.RunEvent) -> None:
        """Numbers an event and begins to write it; followers see it when it is durable."""
        event.number = self._next_number
        event.time.GetCurrentTime()
        self._next_number += 1
        self._pending.append(event)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Waits until all events are durable."""
        while self._pending:
            await self._written.wait()

    async def write_first(self, events: list[runs_pb2.RunEvent]) -> None:
        """Writes the first events.

        Raises:
            GradwireError: The storage failed; nothing was left there.
        """
        for event in events:
            event.number = self._next_number
            event.time.GetCurrentTime()
            self._next_number += 1
        await asyncio.to_thread(self._store, events)
        self._publish(events)

    def close(self) -> None:
        """Ends the log; who follows it ends with its last event."""
        self.closed = True
        self._tell()

    async def load(self) -> list[runs_pb2.RunEvent]:
        """Reads the log of a run of an earlier process; returns all events."""
        events = await asyncio.to_thread(self._load)
        if events:
            self.last_number = events[-1].number
            self._next_number = self.last_number + 1
            self._recent.extend(events[-RECENT_EVENTS:])
        return events

    async def follow(self, first: int) -> AsyncGenerator[runs_pb2.RunEvent, None]:
        """Yields the events from a number on, as they come, until the log is closed."""
        number = max(first, 1)
        while True:
            news = self._news
            while number <= self.last_number:
                for event in await self._from(number):
                    yield event
                    number = event.number + 1
            if self.closed and number > self.last_number:
                return
            await news.wait()

    async def _from(self, number: int) -> list[runs_pb2.RunEvent]:
        """Returns some events from a number on."""
        if self._recent and self._recent[0].number <= number:
            return [event for event in self._recent if event.number >= number]
        first = self._segments[bisect_right(self._segments, number) - 1]
        data = await asyncio.to_thread(self._storage.read, self._name(first))
        return [event for event in decode_events(data) if event.number >= number]

    async def _write(self) -> None:
        """Writes what is pending until nothing is, however long the storage refuses."""
        delay = FIRST_RETRY_SECONDS
        while self._pending:
            batch = list(self._pending)
            try:
                await asyncio.to_thread(self._store, batch)
            except GradwireError as error:
                log.error("events wait for the storage", run=self._folder, error=error.message)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY_SECONDS)
                continue
            delay = FIRST_RETRY_SECONDS
            del self._pending[: len(batch)]
            self._publish(batch)
        self._writer = None

    def _publish(self, events: list[runs_pb2.RunEvent]) -> None:
        self._recent.extend(events)
        self.last_number = events[-1].number
        written, self._written = self._written, asyncio.Event()
        written.set()
        self._tell()

    def _store(self, events: list[runs_pb2.RunEvent]) -> None:
        """Writes events; in a thread."""
        is_new = not self._segments or len(self._tail) >= SEGMENT_BYTES
        first = events[0].number if is_new else self._segments[-1]
        data = (b"" if is_new else self._tail) + encode_events(events)
        self._storage.write(self._name(first), data)
        if is_new:
            self._segments.append(first)
        self._tail = data

    def _load(self) -> list[runs_pb2.RunEvent]:
        events: list[runs_pb2.RunEvent] = []
        for stored in self._storage.list(self._folder):
            data = self._storage.read(stored.name)
            self._segments.append(int(stored.name.rpartition("/")[2]))
            self._tail = data
            events += decode_events(data)
        return events

    def _name(self, first: int) -> str:
        return f"{self._folder}/{first:012d}"

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def encode_events(events: Iterable[runs_pb2.RunEvent]) -> bytes:
    """Returns events as they are in a segment."""
    output = BytesIO()
    for event in events:
        serialize_length_prefixed(event, output)
    return output.getvalue()


def decode_events(data: bytes) -> list[runs_pb2.RunEvent]:
    """Returns the events of a segment."""
    source = BytesIO(data)
    events = []
    while source.tell() < len(data):
        event = parse_length_prefixed(runs_pb2.RunEvent, source)
        assert event is not None
        events.append(event)
    return events
