"""A worker link that answers when it is told to."""

import asyncio
from functools import partial

from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, PendingCall, PendingStream


class FakeLink:
    """Keeps what was sent, and lets a test play the worker."""

    def __init__(self) -> None:
        self.lost = False
        self.sent: list[Frame] = []
        self.cancelled: list[Frame] = []
        self.replies: list[asyncio.Future[Frame]] = []
        self.streams: list[PendingStream] = []
        self.answer_lifecycle = True

    @property
    def methods(self) -> list[str]:
        """What was sent, in order, by method or kind."""
        return [frame.method or frame.kind.name for frame in self.sent]

    def call(self, frame: Frame) -> PendingCall:
        reply: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.sent.append(frame)
        self.replies.append(reply)
        if self.lost:
            reply.set_exception(LinkLostError())
            reply.exception()
        elif self.answer_lifecycle and frame.kind is not FrameKind.CALL:
            reply.set_result(Frame(kind=FrameKind.REPLY))
        return PendingCall(reply=reply, cancel=partial(self.cancelled.append, frame))

    def stream(self, frame: Frame) -> PendingStream:
        stream = PendingStream(partial(self.cancelled.append, frame))
        self.sent.append(frame)
        self.streams.append(stream)
        return stream

    async def arrival(self, count: int) -> None:
        """Waits until `count` frames were sent."""
        async with asyncio.timeout(5):
            while len(self.sent) < count:
                await asyncio.sleep(0)

    def reply(self, index: int, payload: bytes = b"") -> None:
        """Answers the frame sent as number `index`, from 0."""
        self.replies[index].set_result(Frame(kind=FrameKind.REPLY, payload=payload))

    def fail(self, index: int, payload: bytes) -> None:
        """Answers with a failure."""
        self.replies[index].set_result(Frame(kind=FrameKind.FAILURE, payload=payload))

    def lose(self) -> None:
        """Lets the worker die."""
        self.lost = True
        for reply in self.replies:
            if not reply.done():
                reply.set_exception(LinkLostError())
                reply.exception()
        for stream in self.streams:
            stream.lose(LinkLostError())
