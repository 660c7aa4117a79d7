"""A connection to a server as such, without a session."""

import math
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import grpc

from gradwire.errors import GradwireError, ServerUnavailableError, SessionLostError
from gradwire.transport.channel import (
    call_metadata,
    call_unary,
    open_channel,
    responses_of,
    rpc_error,
    send_all,
)
from gradwire.transport.compression import Compression
from gradwire.transport.tls import Tls, target_of
from gradwire.transport.tracing import call_span, method_name

FIRST_CONTACT_SECONDS = 20.0
"""How long to try a server that has never answered: its address may be wrong."""


class Process(Protocol):
    """A server that this program has started."""

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        ...

    def log(self) -> str:
        """Returns the end of what it has logged."""
        ...


class Server:
    """Calls RPCs of a server.

    Args:
        address: ``HOST:PORT``, ``grpcs://HOST:PORT`` or ``unix:PATH``.
        token: What authenticates the caller.
        tls: How to protect the connection; none if it is not.
        timeout_seconds: How long to wait for an answer; a server that has never answered is given
            up after `FIRST_CONTACT_SECONDS`.
        shared_memory: Whether sessions share memory with a server on this host.
        compression: The compression of large tensors in messages, ``zstd``; None for none.
        embedded: The process of the server, if this program has started it.

    Raises:
        ValueError: There is no such compression.
        ImportError: Its package is not installed.

    Attributes:
        channel: What stubs are made on.
        token: What authenticates the caller.
        shared_memory: As given.
        compression: What compresses tensors; None if nothing does.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None,
        tls: Tls | None,
        timeout_seconds: float,
        shared_memory: bool = True,
        compression: str | None = None,
        embedded: Process | None = None,
    ) -> None:
        self.shared_memory = shared_memory
        self._embedded = embedded
        self.compression = Compression.of(compression)
        self.address = address
        self.timeout_seconds = timeout_seconds
        self.channel: grpc.Channel = open_channel(address, tls)
        self.token = token
        self._tls = tls
        self._reached = False

    @property
    def socket_path(self) -> str | None:
        """The path of the server's Unix socket, if it is reached by one."""
        target = target_of(self.address)
        if not target.startswith("unix:"):
            return None
        path = target.removeprefix("unix:")
        return path.removeprefix("//") if path.startswith("///") else path

    def again(self) -> "Server":
        """Returns another connection to the same server, with a channel of its own."""
        return Server(
            self.address,
            token=self.token,
            tls=self._tls,
            timeout_seconds=self.timeout_seconds,
            shared_memory=self.shared_memory,
            compression=None if self.compression is None else self.compression.name,
            embedded=self._embedded,
        )

    def require_process(self) -> None:
        """Raises if the server was this program's own and has ended: no other comes in its place.

        Raises:
            SessionLostError: That is so.
        """
        if self._embedded is not None and self._embedded.has_ended:
            raise SessionLostError(
                "the embedded server has ended, killed or crashed, and its sessions are gone with "
                "it; gradwire.connect() starts another. The end of its log:\n"
                f"{self._embedded.log()}",
                reason="SESSION_LOST",
            )

    def call(
        self, method: Callable[..., Any], request: Any, *, patience_seconds: float = math.inf
    ) -> Any:
        """Calls a unary RPC of a stub made on `channel`.

        Args:
            method: The stub's method.
            request: Its request.
            patience_seconds: How long to try again if nobody answers, if less than usual.

        Raises:
            GradwireError: The server refused, or did not answer in time.
        """
        usual_seconds = self.timeout_seconds if self._reached else FIRST_CONTACT_SECONDS
        patience_seconds = min(patience_seconds, usual_seconds, self.timeout_seconds)
        try:
            response = call_unary(
                method,
                request,
                address=self.address,
                token=self.token,
                timeout_seconds=self.timeout_seconds,
                patience_seconds=patience_seconds,
            )
        except GradwireError as error:
            # Who refuses is there.
            self._reached |= not isinstance(error, ServerUnavailableError)
            raise
        self._reached = True
        return response

    def send(self, method: Any, requests: Iterator[Any]) -> Any:
        """Calls a client-streaming RPC of a stub made on `channel`; once, without a retry.

        Raises:
            GradwireError: The server refused, or the connection broke.
        """
        try:
            return send_all(method, requests, metadata=call_metadata(self.token))
        except grpc.RpcError as error:
            raise rpc_error(error, self.address) from None

    def stream(self, method: Callable[..., Any], request: Any) -> Generator[Any, None, None]:
        """Calls a server-streaming RPC of a stub made on `channel`; cancels it when abandoned.

        Raises:
            GradwireError: The server refused, or failed.
        """
        try:
            with call_span(method_name(method)) as traced:
                metadata = (*call_metadata(self.token), *traced)
                yield from responses_of(method(request, metadata=metadata))
        except grpc.RpcError as error:
            raise rpc_error(error, self.address) from None
