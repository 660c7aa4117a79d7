"""The gRPC handlers of all RPCs, made from the table of routes."""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
)
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from gradwire.v1 import runs_pb2
from gradwire_server.access.identity import caller
from gradwire_server.access.tokens import Tokens
from gradwire_server.calls import current_call, note_resource
from gradwire_server.errors import GradwireError, internal_error
from gradwire_server.observability.observer import CANCELLED, OK, Observer
from gradwire_server.runs.registry import RefusedError, RunRegistry
from gradwire_server.sessions.parking import Parking
from gradwire_server.sessions.placement import not_ready
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.transport.datasets import DatasetRpcs
from gradwire_server.transport.execute import ExecuteStream
from gradwire_server.transport.front import FrontRpcs
from gradwire_server.transport.grpc_types import Context, Handler
from gradwire_server.transport.kept import KeptRpcs
from gradwire_server.transport.keys import decode, routing_key
from gradwire_server.transport.routes import ROUTES, SERVICES, Route
from gradwire_server.transport.statuses import FailedCallError, abort
from gradwire_server.transport.traffic import Traffic
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError
from gradwire_server.workers.pool import Worker

log = structlog.get_logger(__name__)

Answer = Callable[[bytes], Awaitable[bytes]]
"""Takes a request and returns its response."""
Behaviour = Callable[[Any, Context], Awaitable[Any]]
"""What gRPC calls."""


class Handlers:
    """Makes the handlers.

    Requests and responses are bytes throughout; the front decodes only requests that it answers
    itself.

    Args:
        registry: The sessions.
        parking: Finds sessions, parked ones too.
        runs: The runs.
        front: Answers what needs no worker.
        datasets: Answers what is about datasets.
        kept: Answers what is about runs and checkpoints.
        traffic: Counts the calls.
        observer: Is told of each call.
        tokens: Knows the callers; none if no token is asked for.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        parking: Parking,
        runs: RunRegistry,
        front: FrontRpcs,
        datasets: DatasetRpcs,
        kept: KeptRpcs,
        traffic: Traffic,
        observer: Observer,
        tokens: Tokens | None = None,
    ) -> None:
        self._registry = registry
        self._parking = parking
        self._observer = observer
        self._runs = runs
        self._traffic = traffic
        self._tokens = tokens
        self._front: dict[str, Answer] = {
            "CreateSession": front.create_session,
            "GetSession": front.get_session,
            "ListSessions": front.list_sessions,
            "DeleteSession": front.delete_session,
            "CreateRegion": front.create_region,
            "GetServerInfo": front.get_server_info,
            "CreateDataset": datasets.create_dataset,
            "GetDataset": datasets.get_dataset,
            "ListDatasets": datasets.list_datasets,
            "DeleteDataset": datasets.delete_dataset,
            "DescribeFiles": datasets.describe_files,
            **kept.answers(),
        }
        self._uploads = {"UploadDataset": datasets.upload_dataset}
        self._answers: dict[Route, Callable[[str], Answer]] = {
            Route.FRONT: self._front.__getitem__,
            Route.ANY_WORKER: self._any_worker,
            Route.SESSION: self._session,
            Route.SESSION_OR_NEW: self._session_or_new,
        }

    def by_service(self) -> dict[str, dict[str, Handler]]:
        """Returns the handler of each method, by the service's full name and the method's name."""
        return {
            service.full_name: {
                method.name: self._handler(service, method.name) for method in service.methods
            }
            for service in SERVICES
        }

    def _handler(self, service: ServiceDescriptor, method: str) -> Handler:
        route = ROUTES[f"{service.name}.{method}"]
        path = f"{service.full_name}/{method}"
        match route:
            case Route.EXECUTE:
                return grpc.stream_stream_rpc_method_handler(
                    self._guarded(path, self._execute, waits=True)
                )
            case Route.UPLOAD:
                upload = self._upload(self._uploads[method])
                return grpc.stream_unary_rpc_method_handler(self._guarded(path, upload))
            case Route.RUN:
                return grpc.unary_stream_rpc_method_handler(self._guarded(path, self._train))
            case Route.WATCH:
                return grpc.unary_stream_rpc_method_handler(self._guarded(path, self._watch))
            case _:
                behaviour = self._unary(self._answers[route](method))
                return grpc.unary_unary_rpc_method_handler(self._guarded(path, behaviour))

    def _guarded(self, path: str, behaviour: Behaviour, *, waits: bool = False) -> Behaviour:
        """Returns the behaviour with its calls counted and its exceptions turned into statuses.

        Args:
            path: The method, as ``package.Service/Method``.
            behaviour: What to guard.
            waits: Whether calls that come too fast wait, rather than being refused.
        """
        traffic, quotas, observer = self._traffic, self._registry.quotas, self._observer

        async def handle(request: Any, context: Context) -> Any:
            call = observer.begin(path, context)
            try:
                if waits:
                    await asyncio.sleep(quotas.delay_of_request(caller().tenant))
                else:
                    quotas.take_request(caller().tenant)
                traffic.enter()
                try:
                    response = await behaviour(request, context)
                finally:
                    traffic.leave()
            except (GradwireError, FailedCallError) as error:
                status = error.to_status()
            except asyncio.CancelledError:
                observer.end(call, CANCELLED)
                raise
            except Exception:
                log.exception("call failed")
                status = internal_error().to_status()
            else:
                observer.end(call, OK)
                return response
            observer.end(call, status)
            return await abort(context, status)

        return handle

    def _unary(self, answer: Answer) -> Behaviour:
        quotas = self._registry.quotas

        async def behave(request: bytes, _: Context) -> bytes:
            quotas.check_message(len(request), caller().tenant)
            return await answer(request)

        return behave

    def _upload(self, answer: Callable[[AsyncIterable[bytes]], Awaitable[bytes]]) -> Behaviour:
        async def behave(requests: AsyncIterable[bytes], _: Context) -> bytes:
            return await answer(requests)

        return behave

    def _session(self, method: str) -> Answer:
        parking = self._parking

        async def answer(request: bytes) -> bytes:
            key = routing_key(request)
            note_resource(key.name, key.request_id)
            session = await parking.find(key.name)
            frame = await session.call(method, key.request_id, request)
            self._trace_worker(session.worker, frame)
            return _payload(frame)

        return answer

    def _session_or_new(self, method: str) -> Answer:
        registry = self._registry
        in_session = self._session(method)

        async def answer(request: bytes) -> bytes:
            key = routing_key(request)
            if key.name:
                return await in_session(request)
            return _payload(
                await registry.once(
                    key.request_id, method, request, lambda: registry.call_in_new(method, request)
                )
            )

        return answer

    def _any_worker(self, method: str) -> Answer:
        placement = self._registry.placement

        async def answer(request: bytes) -> bytes:
            link = placement.any_ready().link
            assert link is not None
            call = link.call(Frame(kind=FrameKind.CALL, method=method, payload=request))
            try:
                return _payload(await call.reply)
            except LinkLostError:
                raise not_ready() from None

        return answer

    async def _train(self, request: bytes, context: Context) -> None:
        self._registry.quotas.check_message(len(request), caller().tenant)
        key = routing_key(request)
        note_resource(key.name, key.request_id)
        try:
            session = await self._parking.find(key.name)
            run = await self._runs.begin(session, key.request_id, request)
        except RefusedError as error:
            raise FailedCallError(error.frame) from None
        last = runs_pb2.RunEvent()
        try:
            async for event in self._until_close(run.events.follow(1)):
                response = runs_pb2.TrainResponse(event=event)
                await context.write(response.SerializeToString())
                last = event
        finally:
            if run.cancel_on_disconnect and not run.record.ended:
                self._runs.cancel_soon(run.name)
        if last.ended.state == runs_pb2.RUN_STATE_FAILED:
            payload = last.ended.failure.SerializeToString()
            raise FailedCallError(Frame(kind=FrameKind.FAILURE, payload=payload))

    async def _watch(self, request: bytes, context: Context) -> None:
        wanted = decode(runs_pb2.WatchRunRequest, request)
        note_resource(wanted.name)
        run = await self._runs.open(wanted.name)
        async for event in self._until_close(run.events.follow(wanted.from_event)):
            response = runs_pb2.WatchRunResponse(event=event)
            await context.write(response.SerializeToString())

    async def _until_close(
        self, events: AsyncGenerator[runs_pb2.RunEvent, None]
    ) -> AsyncIterator[runs_pb2.RunEvent]:
        """Yields events until there are no more, or the server takes no more calls.

        Raises:
            GradwireError: SHUTTING_DOWN.
        """
        closed: asyncio.Future[GradwireError] = asyncio.get_running_loop().create_future()
        unwatch = self._traffic.watch_close(
            lambda error: None if closed.done() else closed.set_result(error)
        )
        try:
            while True:
                coming = asyncio.ensure_future(anext(events, None))
                try:
                    await asyncio.wait((coming, closed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not coming.done():
                        coming.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await coming
                if coming.cancelled():
                    raise closed.result().with_traceback(None)
                event = coming.result()
                if event is None:
                    return
                yield event
        finally:
            unwatch()
            await events.aclose()

    async def _execute(self, _: Any, context: Context) -> None:
        stream = ExecuteStream(
            context,
            self._registry,
            self._parking,
            self._traffic,
            self._observer.tracing,
            self._tokens,
        )
        await stream.serve()

    def _trace_worker(self, worker: Worker, frame: Frame) -> None:
        """Adds what a worker did to the trace of the call, if it is traced."""
        call = current_call()
        if self._observer.tracing is not None and call is not None and frame.method:
            self._observer.tracing.add_worker(call.span, worker.id, frame.method)


def _payload(frame: Frame) -> bytes:
    """Returns the response that a worker answered.

    Raises:
        FailedCallError: It answered FAILURE.
    """
    if frame.kind is FrameKind.FAILURE:
        raise FailedCallError(frame)
    return frame.payload
