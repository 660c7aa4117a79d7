"""Making gRPC servers whose accepting of calls nobody can end.

grpcio decodes the name of the method of each call that it has no registered handler for, in the
loop that accepts all calls; a name that is no UTF-8 raises there, the loop ends, and the server
answers nobody any more. So all methods are registered here, and calls of others are accepted under
a name that stands for all of them, and their own is never looked at.

The hook is not part of grpcio's interface. Where it is not there, servers are as grpcio makes them,
and the test of this tells whether that is enough.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stub

from gradwire_server.transport.grpc_types import Context

_SERVICE, _METHOD = "gradwire.unknown", "Unknown"
UNKNOWN_METHOD = f"/{_SERVICE}/{_METHOD}"
"""What methods are called that the server does not have."""

_HAS_HOOK = hasattr(cygrpc.AioServer, "_make_request_call_future")


class _AcceptingServer(cygrpc.AioServer):  # type: ignore[misc]
    """Accepts calls of unknown methods as those of `UNKNOWN_METHOD`."""

    def _make_request_call_future(self, method_bytes: bytes | None) -> Any:
        if method_bytes is None:
            # Done by the other one; cancelled when the server ends.
            return asyncio.get_running_loop().create_future()
        if method_bytes == UNKNOWN_METHOD.encode():
            return super()._make_request_call_future(None)
        return super()._make_request_call_future(method_bytes)


def make_grpc_server(
    options: Sequence[tuple[str, int]], interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> grpc.aio.Server:
    """Returns a gRPC server.

    Handlers must be added with `add_registered_method_handlers`, as generated code does too.

    Args:
        options: Its options.
        interceptors: What calls pass through.
    """
    original = cygrpc.AioServer
    try:
        if _HAS_HOOK:
            cygrpc.AioServer = _AcceptingServer
        server = grpc.aio.server(options=options, interceptors=interceptors)
    finally:
        cygrpc.AioServer = original
    if _HAS_HOOK:
        handlers: dict[str, Any] = {_METHOD: grpc.stream_stream_rpc_method_handler(_refuse)}
        server.add_registered_method_handlers(_SERVICE, handlers)
    return server


async def _refuse(_: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
