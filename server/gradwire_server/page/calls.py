"""The RPCs of the page: gRPC calls made over HTTP, with messages in JSON.

JSON is protobuf's own mapping: https://protobuf.dev/programming-guides/json/
"""

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus

import grpc
from aiohttp import web
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message

from gradwire_server.transport.routes import SERVICES

CALLS = frozenset(
    {
        "ServerService/GetServerInfo",
        "SessionService/ListSessions",
        "RunService/ListRuns",
        "RunService/WatchRun",
    }
)
"""The RPCs that the page makes; all of them only read. There are no others over HTTP."""

TIMEOUT_SECONDS = 10.0
"""How long the answer to a unary RPC may take."""

REFUSAL_SECONDS = 1.0
"""After how long without a message a stream counts as begun."""

HTTP_STATUSES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""As google/rpc/code.proto maps them."""


Metadata = tuple[tuple[str, str], ...]
_class = message_factory.GetMessageClass


class Calls:
    """Makes the calls of the page's readers, with the tokens that they show.

    Args:
        channel: Leads to the server.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._methods = {
            f"{service.name}/{method.name}": method
            for service in SERVICES
            for method in service.methods
            if f"{service.name}/{method.name}" in CALLS
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Carries out ``POST /rpc/{service}/{method}``.

        A unary RPC answers with its response; a streaming one with a line for each.
        """
        method = self._methods.get(request.match_info["method"])
        if method is None:
            return _failure(grpc.StatusCode.UNIMPLEMENTED, "The page makes no such call.")
        # A page of another site can send no JSON here without asking the browser first.
        if request.content_type != "application/json":
            return _failure(grpc.StatusCode.INVALID_ARGUMENT, "The content type must be JSON.")
        try:
            message = Parse(await request.text(), _class(method.input_type)())
        except (ParseError, UnicodeDecodeError) as error:
            return _failure(grpc.StatusCode.INVALID_ARGUMENT, f"The request: {error}")
        token = request.headers.get("authorization")
        metadata = (("authorization", token),) if token else ()
        try:
            if method.server_streaming:
                return await self._stream(request, method, message, metadata)
            return await self._call(method, message, metadata)
        except grpc.aio.AioRpcError as error:
            return _failure(error.code(), error.details() or "")

    async def _call(
        self, method: MethodDescriptor, message: Message, metadata: Metadata
    ) -> web.Response:
        call = self._channel.unary_unary(
            _path(method),
            request_serializer=type(message).SerializeToString,
            response_deserializer=_class(method.output_type).FromString,
        )
        response = await call(message, metadata=metadata, timeout=TIMEOUT_SECONDS)
        return web.json_response(text=_to_json(response))

    async def _stream(
        self, request: web.Request, method: MethodDescriptor, message: Message, metadata: Metadata
    ) -> web.StreamResponse:
        call = self._channel.unary_stream(
            _path(method),
            request_serializer=type(message).SerializeToString,
            response_deserializer=_class(method.output_type).FromString,
        )(message, metadata=metadata)
        messages = aiter(call)
        first = asyncio.ensure_future(anext(messages, None))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            # A call that is refused is so by then, and the HTTP status can say why.
            await asyncio.wait((first,), timeout=REFUSAL_SECONDS)
            if first.done():
                first.result()
            await response.prepare(request)
            with contextlib.suppress(grpc.aio.AioRpcError):
                # If it fails now, the stream ends; who asks again is told.
                await _write(response, await first)
                async for following in messages:
                    await _write(response, following)
            await response.write_eof()
        finally:
            call.cancel()
            first.cancel()
        return response


async def _write(response: web.StreamResponse, message: Message | None) -> None:
    """Writes a message as a line; none stands for the end of the stream."""
    if message is not None:
        await response.write(_to_json(message).encode() + b"\n")


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _to_json(message: Message) -> str:
    return MessageToJson(message, indent=None)


def _failure(code: grpc.StatusCode, message: str | None) -> web.Response:
    return web.json_response(
        {"code": code.name, "message": message or ""}, status=HTTP_STATUSES[code]
    )
