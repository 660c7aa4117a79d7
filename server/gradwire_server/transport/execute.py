"""One Execute stream: messages on to the worker as they come, answers back in their order."""

import asyncio
from collections import deque
from typing import Any

import grpc
import structlog

from gradwire.v1 import sessions_pb2
from gradwire_server.access.identity import caller
from gradwire_server.access.tokens import Tokens
from gradwire_server.calls import current_call, note_resource
from gradwire_server.errors import GradwireError, internal_error, invalid
from gradwire_server.observability.tracing import Tracing
from gradwire_server.sessions.names import session_part
from gradwire_server.sessions.parking import Parking
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.sessions.session import Session
from gradwire_server.transport.grpc_types import Context
from gradwire_server.transport.keys import execute_key
from gradwire_server.transport.statuses import FailedCallError
from gradwire_server.transport.traffic import Traffic
from gradwire_server.transport.window import Window
from gradwire_server.workers.frames import Frame, FrameKind

log = structlog.get_logger(__name__)

_STOPPING = sessions_pb2.ExecuteResponse(server_stopping=True).SerializeToString()
"""What says so at the end of a serialized response, whose fields need not be known for it."""


class ExecuteStream:
    """Serves one call of Execute.

    A message that was accepted is carried out even if the stream breaks; who resends it on
    another stream gets its answer.

    Args:
        context: The call.
        registry: The sessions.
        parking: Where sessions are found.
        traffic: Says when to stop taking messages.
        tracing: Traces the messages, if that is asked for.
        tokens: Says whether the caller still may call; none if no token is asked for.
    """

    def __init__(
        self,
        context: Context,
        registry: SessionRegistry,
        parking: Parking,
        traffic: Traffic,
        tracing: Tracing | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._context = context
        self._registry = registry
        self._parking = parking
        self._traffic = traffic
        self._tracing = tracing
        self._call = current_call()
        self._spans: deque[Any] = deque()
        self._tokens = tokens
        self._caller = caller()
        self._session: Session | None = None
        self._replies: asyncio.Queue[asyncio.Future[Any] | GradwireError | None] = asyncio.Queue()
        self._window = Window()
        self._stopped: GradwireError | None = None
        self._reader: asyncio.Task[None] | None = None
        # A session that a server which stops keeps for the next one says itself when it ends.
        self._unwatch = traffic.watch_close(self._stop)

    async def serve(self) -> None:
        """Answers messages until the caller has sent all, or the stream cannot go on.

        Raises:
            GradwireError: Why it cannot go on; the messages before were answered.
            FailedCallError: The same, told by the worker.
        """
        self._reader = asyncio.create_task(self._read())
        try:
            while (reply := await self._replies.get()) is not None:
                if isinstance(reply, GradwireError):
                    raise reply
                assert self._session is not None
                frame = await self._session.answer(reply)
                if self._spans:
                    self._end_span(frame, self._session.worker.id)
                if frame.kind is FrameKind.FAILURE:
                    raise FailedCallError(frame)
                payload = frame.payload + _STOPPING if self._traffic.closed else frame.payload
                await self._context.write(payload)
                self._window.taken(len(frame.payload))
        finally:
            self._reader.cancel()
            self._unwatch()

    async def _read(self) -> None:
        """Sends messages on, and queues what will be their answers; last, how reading ended."""
        end: GradwireError | None = None
        try:
            while (message := await self._context.read()) is not grpc.aio.EOF:
                await self._accept(message)
        except GradwireError as error:
            end = error
        except asyncio.CancelledError:
            end = self._stopped
        except Exception:
            log.exception("reading an Execute stream failed")
            end = internal_error()
        self._replies.put_nowait(end)

    async def _accept(self, message: bytes) -> None:
        if self._tokens is not None:
            # A stream may outlive the token that it was opened with.
            self._tokens.check(self._caller)
        quotas, tenant = self._registry.quotas, self._caller.tenant
        # A stream waits where a call would be refused: nothing more is read from it meanwhile.
        if delay := quotas.delay_of_request(tenant):
            await asyncio.sleep(delay)
        quotas.check_message(len(message), tenant)
        key = execute_key(message)
        session = self._session
        if session is None:
            note_resource(key.name)
            session = self._session = await self._parking.find(key.name)
            self._unwatch()
            self._unwatch = session.watch_end(self._stop)
        elif key.name and key.name != session.name and session_part(key.name) != session.name:
            raise invalid(
                "name",
                f"is {key.name[:200]}, but this stream belongs to another session; open a stream "
                "for each session",
            )
        await session.room()
        await self._window.enter(len(message))
        trace = self._begin_span(key.traceparent) if self._tracing is not None else ""
        reply = session.execute(key.seq, key.acknowledged_seq, message, trace=trace)
        self._replies.put_nowait(reply)
        num_bytes = len(message)
        reply.add_done_callback(lambda done: self._window.answered(num_bytes, _num_bytes(done)))

    def _begin_span(self, traceparent: str) -> str:
        """Begins the span of a message; returns the trace context for what is done for it."""
        assert self._tracing is not None
        assert self._call is not None
        span, trace = self._tracing.begin_message(self._call, traceparent)
        self._spans.append(span)
        return trace

    def _end_span(self, frame: Frame, worker: str) -> None:
        """Ends the span of the message that was answered."""
        assert self._tracing is not None
        span = self._spans.popleft()
        self._tracing.add_worker(span, worker, frame.method)
        span.end()

    def _stop(self, error: GradwireError) -> None:
        """Takes no more messages; those that were accepted are still answered."""
        if self._stopped is None and self._reader is not None:
            self._stopped = error
            self._reader.cancel()


def _num_bytes(reply: "asyncio.Future[Frame]") -> int:
    """Returns how long an answer is; 0 if there is none."""
    if reply.cancelled() or reply.exception() is not None:
        return 0
    return len(reply.result().payload)
