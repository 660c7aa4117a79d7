"""How the commands that ask a server reach it."""

import functools
import inspect
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import grpc
import typer
from grpc_health.v1 import health_pb2_grpc

from gradwire.v1 import (
    checkpoints_pb2_grpc,
    datasets_pb2_grpc,
    runs_pb2_grpc,
    server_pb2_grpc,
    sessions_pb2_grpc,
)
from gradwire_server.config import ENV_PREFIX, Settings, SettingsError
from gradwire_server.transport.options import CLIENT_OPTIONS

CALL_TIMEOUT_SECONDS = 5.0
DEFAULT_ADDRESS = str(Settings.model_fields["address"].default)

TLS_SCHEME = "grpcs://"
PLAIN_SCHEME = "grpc://"

_PANEL = "Connection"


def _option(variable: str, text: str) -> Any:
    return typer.Option(
        envvar=f"{ENV_PREFIX}{variable}", help=text, rich_help_panel=_PANEL, show_default=False
    )


Address = Annotated[
    str,
    typer.Option(
        envvar=f"{ENV_PREFIX}ADDRESS",
        help="HOST:PORT, grpcs://HOST:PORT with TLS, or unix:PATH.",
        metavar="TEXT",
        rich_help_panel=_PANEL,
    ),
]
Token = Annotated[str, _option("TOKEN", "What to show as Bearer token.")]
CaFile = Annotated[
    Path | None, _option("CA_FILE", "PEM file with the authorities to trust; implies TLS.")
]
ClientCertificateFile = Annotated[
    Path | None,
    _option("CLIENT_CERTIFICATE_FILE", "PEM file with the certificate to show; implies TLS."),
]
ClientKeyFile = Annotated[
    Path | None, _option("CLIENT_KEY_FILE", "PEM file with that certificate's key.")
]


class CallFailedError(Exception):
    """A server did not answer as it should; the message is for the person who asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a server.

    Attributes:
        address: ``HOST:PORT``, ``grpcs://HOST:PORT`` or ``unix:PATH``.
        token: What to show; none if empty.
        ca_file: The authorities to trust.
        client_certificate_file: The certificate to show.
        client_key_file: Its key.
    """

    address: str
    token: str = ""
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None

    @contextmanager
    def open(self) -> Iterator["ServerStubs"]:
        """Opens a channel for the block.

        Raises:
            SettingsError: A file cannot be used.
        """
        with self._channel() as channel:
            yield ServerStubs(self, channel)

    def _channel(self) -> grpc.Channel:
        files = (self.ca_file, self.client_certificate_file, self.client_key_file)
        target = self.address.removeprefix(PLAIN_SCHEME).removeprefix(TLS_SCHEME)
        if not any(files) and not self.address.startswith(TLS_SCHEME):
            return grpc.insecure_channel(target, options=CLIENT_OPTIONS)
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            raise SettingsError("--client-certificate-file and --client-key-file go together")
        try:
            if self.client_certificate_file is not None:
                ssl.create_default_context().load_cert_chain(
                    self.client_certificate_file, self.client_key_file, password=""
                )
            root, certificate, key = (None if file is None else file.read_bytes() for file in files)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"TLS: {error}") from None
        credentials = grpc.ssl_channel_credentials(root, key, certificate)
        return grpc.secure_channel(target, credentials, options=CLIENT_OPTIONS)


class ServerStubs:
    """Calls of one server."""

    def __init__(self, connection: Connection, channel: grpc.Channel) -> None:
        self._connection = connection
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.server: Any = server_pb2_grpc.ServerServiceStub(channel)
        self.runs: Any = runs_pb2_grpc.RunServiceStub(channel)
        self.checkpoints: Any = checkpoints_pb2_grpc.CheckpointServiceStub(channel)
        self.datasets: Any = datasets_pb2_grpc.DatasetServiceStub(channel)
        self.sessions: Any = sessions_pb2_grpc.SessionServiceStub(channel)

    def call(
        self, method: Any, request: Any, *, timeout_seconds: float | None = CALL_TIMEOUT_SECONDS
    ) -> Any:
        """Calls an RPC that has one response.

        Args:
            method: The stub's method.
            request: Its request, or an iterator of them.
            timeout_seconds: How long it may take; None for as long as it takes.

        Raises:
            CallFailedError: It failed.
        """
        try:
            return method(request, timeout=timeout_seconds, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def stream(self, method: Any, request: Any) -> Iterator[Any]:
        """Calls an RPC that has many responses, and yields them.

        Raises:
            CallFailedError: It failed.
        """
        try:
            yield from method(request, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._connection.token
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _failure(self, error: grpc.RpcError) -> CallFailedError:
        call = cast("grpc.Call", error)
        return CallFailedError(f"{self._connection.address}: {call.code().name}: {call.details()}")


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """Returns a command with the options of a connection before its own.

    Args:
        command: Is called with the `Connection` and with its own options. If it raises
            `CallFailedError`, that is told, and the exit status is 1.
    """

    def options(
        address: Address = DEFAULT_ADDRESS,
        token: Token = "",
        ca_file: CaFile = None,
        client_certificate_file: ClientCertificateFile = None,
        client_key_file: ClientKeyFile = None,
    ) -> None:
        """Has the parameters."""

    shared = inspect.signature(options).parameters
    _, *own = inspect.signature(command).parameters.values()

    @functools.wraps(command)
    def run(**given: Any) -> None:
        connection = Connection(**{name: given.pop(name) for name in shared})
        try:
            command(connection, **given)
        except CallFailedError as error:
            typer.echo(f"gradwire: {error}", err=True)
            raise typer.Exit(1) from None

    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*shared.values(), *own)
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
