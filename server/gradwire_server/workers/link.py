"""The link to one worker: frames over a stream socket, many calls in flight.

`WorkerLink` is the seam to whatever holds the sessions; `SocketLink` is the one over a socket to
a process on this host.
"""

import asyncio
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Protocol

from gradwire_server.workers.frames import HEADER, Frame, FrameKind, encode_header
from gradwire_server.workers.polling import Polling

READ_BYTES = 64 * 1024
"""How much to read at once; a longer payload is received in place instead."""

MAX_PAYLOAD_BYTES = 1 << 40
"""A longer payload means that the other end does not speak frames."""

PROMPT_SECONDS = 0.0004
"""Within what time a worker answers small commands."""

_LAST_FRAMES = frozenset({FrameKind.REPLY, FrameKind.END, FrameKind.FAILURE})
_ANSWERS = _LAST_FRAMES | {FrameKind.EVENT}


class LinkLostError(Exception):
    """The worker at the other end is gone, and with it everything it held."""


@dataclass(slots=True, kw_only=True)
class PendingCall:
    """A call that was sent.

    Attributes:
        reply: The REPLY or FAILURE; raises `LinkLostError` if the worker dies first. May be
            cancelled by who waits; that alone does not stop the call.
        cancel: Asks the worker to drop the call. `reply` tells whether that came in time.
    """

    reply: asyncio.Future[Frame]
    cancel: Callable[[], None]


class PendingStream:
    """The frames that answer a streaming call, in order: EVENT, ..., then END or FAILURE.

    Iterating raises `LinkLostError` if the worker dies before the last frame.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel
        self._frames: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost: LinkLostError | None = None
        self._ended = False

    def __aiter__(self) -> "PendingStream":
        return self

    async def __anext__(self) -> Frame:
        while not self._frames:
            if self._ended:
                raise StopAsyncIteration
            if self._lost is not None:
                raise self._lost
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        frame = self._frames.popleft()
        self._ended = frame.kind in _LAST_FRAMES
        return frame

    def deliver(self, frame: Frame) -> None:
        """Appends a frame."""
        self._frames.append(frame)
        self._wake()

    def lose(self, error: LinkLostError) -> None:
        """Ends the stream with an error, after the frames that have arrived."""
        self._lost = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class WorkerLink(Protocol):
    """Sends calls to a worker, in the order in which they are made."""

    @property
    def lost(self) -> bool:
        """Whether the worker is gone."""

    def call(self, frame: Frame) -> PendingCall:
        """Sends a frame that is answered by one frame; `frame.call` is filled in."""

    def stream(self, frame: Frame) -> PendingStream:
        """Sends a frame that is answered by many frames; `frame.call` is filled in."""


class SocketLink:
    """A `WorkerLink` over a connected stream socket. Belongs to the running event loop.

    If the worker answered promptly the last time and has nothing else to do, the answer to a call
    is waited for in place, for the time that counts as prompt: going around the event loop would
    take longer than the worker does.

    Args:
        connected: The socket; the link closes it.
        on_lost: Called once when the link is lost, before the pending calls fail.
        prompt_seconds: The longest that the event loop is held up.
    """

    def __init__(
        self,
        connected: socket.socket,
        *,
        on_lost: Callable[[], None] = lambda: None,
        prompt_seconds: float = PROMPT_SECONDS,
    ) -> None:
        connected.setblocking(False)
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Frame] = self._loop.create_future()
        """The READY frame; raises `LinkLostError` if the worker dies before."""
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the link is lost."""
        self._socket = connected
        self._on_lost = on_lost
        self._calls = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Frame] | PendingStream] = {}
        self._outbox: deque[memoryview] = deque()
        self._tail = b""
        self._large: _LargeFrame | None = None
        self._polling = Polling(prompt_seconds)
        self._sent_time = 0.0
        self._loop.add_reader(connected.fileno(), self._on_readable)

    @property
    def num_pending(self) -> int:
        """How many calls have not been answered yet."""
        return len(self._pending)

    def call(self, frame: Frame) -> PendingCall:
        """Sends a frame that is answered by one frame; `frame.call` is filled in."""
        reply: asyncio.Future[Frame] = self._loop.create_future()
        number = next(self._calls)
        if self.lost:
            _fail(reply, _lost_error())
        else:
            self._pending[number] = reply
            self._sent_time = time.perf_counter()
            frame.call = number
            self.send(frame)
            if len(self._pending) == 1 and not self._outbox:
                self._poll()
        return PendingCall(reply=reply, cancel=partial(self._cancel, number))

    def stream(self, frame: Frame) -> PendingStream:
        """Sends a frame that is answered by many frames; `frame.call` is filled in."""
        number = next(self._calls)
        stream = PendingStream(partial(self._cancel, number))
        if self.lost:
            stream.lose(_lost_error())
        else:
            self._pending[number] = stream
            frame.call = number
            self.send(frame)
        return stream

    def send(self, frame: Frame) -> None:
        """Sends a frame that is not answered. Never blocks: what the socket does not take waits."""
        if self.lost:
            return
        header, payload = encode_header(frame), frame.payload
        sent = 0
        if not self._outbox:
            try:
                sent = self._socket.sendmsg((header, payload))
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                # Reading tells the same, and first delivers what the worker had answered.
                return
            if sent == len(header) + len(payload):
                return
            self._loop.add_writer(self._socket.fileno(), self._on_writable)
        if sent < len(header):
            self._outbox.append(memoryview(header)[sent:])
        self._outbox.append(memoryview(payload)[max(0, sent - len(header)) :])

    def close(self) -> None:
        """Gives the link up; pending calls fail with `LinkLostError`."""
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._outbox.clear()
        self._large = None
        self._on_lost()
        error = _lost_error()
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            if isinstance(waiting, PendingStream):
                waiting.lose(error)
            else:
                _fail(waiting, error)
        _fail(self.ready, error)
        self.closed.set_result(None)

    def _cancel(self, call: int) -> None:
        if call in self._pending:
            self.send(Frame(kind=FrameKind.CANCEL, call=call))

    def _poll(self) -> None:
        while self._pending and not self.lost and self._polling.goes_on(self._sent_time):
            if not self._on_readable():
                self._polling.leave_core()

    def _on_writable(self) -> None:
        try:
            while self._outbox:
                sent = self._socket.sendmsg(list(itertools.islice(self._outbox, 16)))
                while self._outbox and sent >= len(self._outbox[0]):
                    sent -= len(self._outbox.popleft())
                if sent:
                    self._outbox[0] = self._outbox[0][sent:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._outbox.clear()
        self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> bool:
        """Takes what has arrived; returns whether there was anything."""
        try:
            if self._large is not None:
                self._receive_large(self._large)
                return True
            chunk = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self.close()
            return True
        try:
            self._parse(self._tail + chunk if self._tail else chunk)
        except ValueError:
            # What arrived is no frame, so nothing after it can be understood either.
            self.close()
        return True

    def _receive_large(self, large: "_LargeFrame") -> None:
        if not large.receive(self._socket):
            self.close()
        elif large.complete:
            self._large = None
            self._dispatch(large.frame())

    def _parse(self, data: bytes) -> None:
        offset = 0
        while len(data) - offset >= HEADER.size:
            length, call, session, kind, method_length = HEADER.unpack_from(data, offset)
            start = offset + HEADER.size + method_length
            if length > MAX_PAYLOAD_BYTES:
                self.close()
                return
            if start + length > len(data):
                if start <= len(data) and start + length - len(data) > READ_BYTES:
                    method = data[start - method_length : start].decode("ascii")
                    head = Frame(kind=FrameKind(kind), call=call, session=session, method=method)
                    self._large = _LargeFrame(head, length, data[start:])
                    self._tail = b""
                    return
                break
            self._dispatch(
                Frame(
                    kind=FrameKind(kind),
                    call=call,
                    session=session,
                    method=data[start - method_length : start].decode("ascii"),
                    payload=data[start : start + length],
                )
            )
            offset = start + length
        self._tail = data[offset:]

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind is FrameKind.READY:
            if not self.ready.done():
                self.ready.set_result(frame)
            return
        if frame.kind not in _ANSWERS:
            self.close()
            return
        if frame.kind is FrameKind.EVENT:
            waiting = self._pending.get(frame.call)
        else:
            waiting = self._pending.pop(frame.call, None)
            if not self._pending:
                self._polling.waited(time.perf_counter() - self._sent_time)
        if isinstance(waiting, PendingStream):
            waiting.deliver(frame)
        elif waiting is not None and not waiting.done():
            waiting.set_result(frame)


class _LargeFrame:
    """A frame whose payload is received in place, without a copy."""

    def __init__(self, head: Frame, length: int, begin: bytes) -> None:
        self._head = head
        self._length = length
        # BytesIO lends its memory to recv_into, and at the end gives it away as `bytes`.
        self._payload = BytesIO(bytes(length))
        self._filled = len(begin)
        self._payload.write(begin)

    @property
    def complete(self) -> bool:
        return self._filled == self._length

    def receive(self, connected: socket.socket) -> int:
        """Returns how many bytes arrived; 0 at the end of the stream, or if it broke."""
        with self._payload.getbuffer() as memory:
            try:
                count = connected.recv_into(memory[self._filled :])
            except (BlockingIOError, InterruptedError):
                raise
            except OSError:
                return 0
        self._filled += count
        return count

    def frame(self) -> Frame:
        self._head.payload = self._payload.getvalue()
        return self._head


def _lost_error() -> LinkLostError:
    return LinkLostError("the worker is gone")


def _fail(waiting: "asyncio.Future[Frame]", error: LinkLostError) -> None:
    """Fails a future that perhaps nobody waits for any more."""
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()
