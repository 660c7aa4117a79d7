"""The token that callers must show."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.transport.grpc_types import Context, Handler
from gradwire_server.transport.statuses import abort

_OPEN_PREFIX = "/grpc.health."
"""Health checks come from machinery that has no token."""


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without ``authorization: Bearer <token>``, except health checks.

    Args:
        token: The token.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the handler of the call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        if handler is None or self._allows(handler_call_details):
            return handler
        return _refusal_like(handler)

    def _allows(self, details: grpc.HandlerCallDetails) -> bool:
        if details.method.startswith(_OPEN_PREFIX):
            return True
        shown = next((v for k, v in details.invocation_metadata if k == "authorization"), "")
        given = shown if isinstance(shown, bytes) else shown.encode()
        return hmac.compare_digest(given, self._expected)


async def _refuse(_: Any, context: Context) -> None:
    error = GradwireError(
        Reason.UNAUTHENTICATED,
        "This server wants its token: send the metadata entry `authorization: Bearer <token>`.",
    )
    await abort(context, error.to_status())


def _refusal_like(handler: Handler) -> Handler:
    """Returns a handler of the same shape that refuses all calls."""
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(_refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(_refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(_refuse)
    return grpc.unary_unary_rpc_method_handler(_refuse)
