"""Who calls, and whether they may: asked at the beginning of every call."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from gradwire_server.access.identity import Caller, Role, enter_call
from gradwire_server.access.tokens import Tokens
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.observability.observer import Observer
from gradwire_server.transport.accepting import UNKNOWN_METHOD
from gradwire_server.transport.grpc_types import Context, Handler
from gradwire_server.transport.routes import needed_role
from gradwire_server.transport.statuses import abort

_OPEN_PREFIX = "/grpc.health."
"""Health checks come from machinery that has no token."""

ANYBODY = Caller(role=Role.ADMIN)
"""Who calls a server that asks for no token: whoever can reach it may do everything."""


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Says who makes a call, and refuses calls that the caller may not make.

    Health checks are open to all. gRPC runs the handler in the context of its interceptors, so
    what `enter_call` says here holds there.

    Args:
        tokens: Knows the callers; none if no token is asked for.
        observer: Is told of calls that are refused.
    """

    def __init__(self, tokens: Tokens | None, observer: Observer) -> None:
        self._tokens = tokens
        self._observer = observer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the handler of the call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method == UNKNOWN_METHOD or method.startswith(_OPEN_PREFIX):
            return handler
        who = None
        try:
            metadata = handler_call_details.invocation_metadata
            shown = next((v for k, v in metadata if k == "authorization"), "")
            who = identify(self._tokens, shown)
            require_role(who, needed_role(method), method.rpartition("/")[2])
        except GradwireError as error:
            self._observer.refuse(method.removeprefix("/"), who, error.to_status())
            return _refusal(error)
        enter_call(who)
        return handler


def identify(tokens: Tokens | None, authorization: str | bytes) -> Caller:
    """Returns who calls.

    Args:
        tokens: Knows the callers; none if no token is asked for.
        authorization: What was sent under that name; empty if nothing was.

    Raises:
        GradwireError: UNAUTHENTICATED.
    """
    return ANYBODY if tokens is None else tokens.identify(authorization)


def require_role(who: Caller, needed: Role, what: str) -> None:
    """Checks that a caller may do something.

    Raises:
        GradwireError: PERMISSION_DENIED.
    """
    if not who.role.includes(needed):
        raise GradwireError(
            Reason.PERMISSION_DENIED,
            f"{what} needs the role {needed}, and the token that was sent has the role {who.role}. "
            "Use another token.",
            metadata={"role": who.role.value, "needed_role": needed.value},
        )


def _refusal(error: GradwireError) -> Handler:
    """Returns a handler that refuses a call of any shape.

    It is one of a stream, because these are called before a message is read: what nobody may send
    is not to fill the memory first.
    """

    async def refuse(_: Any, context: Context) -> None:
        await abort(context, error.to_status())

    return grpc.stream_stream_rpc_method_handler(refuse)
