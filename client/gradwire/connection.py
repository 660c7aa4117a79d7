"""Which session operations go to: `connect`, and the default that first use makes.

What talks to servers, gRPC among it, is loaded when there is one to talk to; if that is an embedded
one, while it starts.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any, cast

from gradwire.current import get_session, sessions_lock

if TYPE_CHECKING:
    from gradwire.embedded import EmbeddedServer
    from gradwire.session import Session
    from gradwire.transport.server import Server

DEFAULT_TIMEOUT_SECONDS = 600.0

_embedded: "EmbeddedServer | None" = None


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    client_certificate_file: str | os.PathLike[str] | None = None,
    client_key_file: str | os.PathLike[str] | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    exact: bool = True,
    shared_memory: bool = True,
    compression: str | None = None,
) -> "Session":
    """Opens a session on a server and makes it the one that operations go to.

    Calling this is optional: the first operation connects by itself. Used with ``with``, the
    session ends with the block and the one before is current again::

        with gradwire.connect("gpu-box:50051") as session:
            model = nn.Linear(3, 5)

    Args:
        address: ``HOST:PORT``, ``grpcs://HOST:PORT`` for TLS, or ``unix:PATH``. None means the
            environment's GRADWIRE_ADDRESS, and if that is not set either, an embedded server: a
            process of its own that starts now and ends with this program.
        token: What authenticates the caller; None means the environment's GRADWIRE_TOKEN.
        ca_file: A PEM file with the authorities whose servers to trust, and asks for TLS; None
            means the environment's GRADWIRE_CA_FILE, and if that is not set, with ``grpcs://``,
            the authorities that gRPC knows.
        client_certificate_file: A PEM file with the certificate to show to a server that wants
            one; None means the environment's GRADWIRE_CLIENT_CERTIFICATE_FILE.
        client_key_file: A PEM file with its key; None means the environment's
            GRADWIRE_CLIENT_KEY_FILE.
        timeout_seconds: How long to wait for an answer before giving the server up; where nobody
            has answered yet, 20 seconds at most.
        exact: Whether training steps are torch's own, to the last bit. With False, a step that
            comes again and again is compiled in the background and then runs several times as
            fast, with results that are equal within torch's tolerances.
        shared_memory: Whether large tensors go through shared memory if the server is on this
            host; if it is not, they never do.
        compression: ``"zstd"`` to compress large tensors that travel in messages, for slow
            networks; it needs ``pip install 'gradwire[zstd]'``.

    Raises:
        ServerUnavailableError: There is no server at the address.
        AuthenticationError: The token is missing or wrong.
        OSError: A file can't be read.
        ValueError: A file for TLS, or the timeout, is not what it should be.
    """
    if timeout_seconds <= 0:
        raise ValueError(f"timeout_seconds must be positive, not {timeout_seconds}")
    with sessions_lock:
        server = _open_server(
            address,
            token,
            ca_file,
            client_certificate_file,
            client_key_file,
            timeout_seconds=timeout_seconds,
            shared_memory=shared_memory,
            compression=compression,
        )
        return open_session(server, exact=exact)


def open_session(server: "Server", *, checkpoint: str = "", exact: bool = True) -> "Session":
    """Opens a session and makes it the one that operations go to.

    Args:
        server: The server; the connection to it becomes the session's.
        checkpoint: The checkpoint whose values it begins with; empty for none.
        exact: See :func:`connect`; a checkpoint knows whether its session was.
    """
    with sessions_lock:
        session = _opening().open_session(server, checkpoint=checkpoint, exact=exact)
        return cast("Session", session)


def find_server(address: str | None, token: str | None) -> "Server":
    """Returns a connection to a server, without a session.

    Args:
        address: As for :func:`connect`; None means the server of the session in use first of all.
        token: As for :func:`connect`.
    """
    session = get_session()
    if address is None and session is not None:
        return session.server.again()
    with sessions_lock:
        return _open_server(address, token, timeout_seconds=DEFAULT_TIMEOUT_SECONDS)


def _open_server(
    address: str | None,
    token: str | None,
    ca_file: str | os.PathLike[str] | None = None,
    certificate_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> "Server":
    """Returns a connection to a server; to the embedded one if no address is given.

    What is not given the environment may say.
    """
    if address is None:
        address = os.environ.get("GRADWIRE_ADDRESS") or None
    if token is None:
        token = os.environ.get("GRADWIRE_TOKEN") or None
    embedded = _start_embedded() if address is None else None
    opening = _opening()
    if embedded is not None:
        embedded.wait_until_listening()
        server = opening.Server(
            embedded.address, token=token, tls=None, embedded=embedded, **options
        )
    else:
        tls = opening.Tls.for_address(
            address,
            _file(ca_file, "GRADWIRE_CA_FILE"),
            _file(certificate_file, "GRADWIRE_CLIENT_CERTIFICATE_FILE"),
            _file(key_file, "GRADWIRE_CLIENT_KEY_FILE"),
        )
        server = opening.Server(address, token=token, tls=tls, **options)
    return cast("Server", server)


def _opening() -> Any:
    """Returns what talks to servers."""
    return importlib.import_module("gradwire.opening")


def _file(given: str | os.PathLike[str] | None, variable: str) -> str | None:
    """Returns the file that is given, or else named by the environment."""
    return os.fspath(given) if given is not None else os.environ.get(variable) or None


def current_session() -> "Session":
    """Returns the session that operations go to; connects if there is none."""
    session = get_session()
    if session is not None:
        return session
    with sessions_lock:
        return get_session() or connect()


def _start_embedded() -> "EmbeddedServer":
    """Returns the embedded server; starts one if there is none, or it has ended.

    It may not listen yet.
    """
    global _embedded  # noqa: PLW0603  # one embedded server a process
    if _embedded is not None and _embedded.has_ended:
        _embedded.stop()
        _embedded = None
    if _embedded is None:
        _embedded = importlib.import_module("gradwire.embedded").EmbeddedServer()
    return _embedded


def _forget_embedded() -> None:
    """In a forked child: the embedded server is the parent's."""
    global _embedded  # noqa: PLW0603
    _embedded = None


os.register_at_fork(after_in_child=_forget_embedded)
