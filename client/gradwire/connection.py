"""Which session operations go to: `connect`, and the default that first use makes."""

import os
from typing import Any

from gradwire.convert import convert
from gradwire.current import get_session, push_session, sessions_lock
from gradwire.embedded import EmbeddedServer
from gradwire.session import Session
from gradwire.transport.server import Server
from gradwire.transport.tls import Tls

DEFAULT_TIMEOUT_SECONDS = 600.0

_embedded: EmbeddedServer | None = None


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
) -> Session:
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
    address, token, tls = _resolve(
        address, token, ca_file, client_certificate_file, client_key_file
    )
    with sessions_lock:
        server = _open_server(
            address,
            token=token,
            tls=tls,
            timeout_seconds=timeout_seconds,
            shared_memory=shared_memory,
            compression=compression,
        )
        return open_session(server, exact=exact)


def open_session(server: Server, *, checkpoint: str = "", exact: bool = True) -> Session:
    """Opens a session and makes it the one that operations go to.

    Args:
        server: The server; the connection to it becomes the session's.
        checkpoint: The checkpoint whose values it begins with; empty for none.
        exact: See :func:`connect`; a checkpoint knows whether its session was.
    """
    with sessions_lock:
        session = Session(server, convert=convert, checkpoint=checkpoint, exact=exact)
        push_session(session)
        return session


def find_server(address: str | None, token: str | None) -> Server:
    """Returns a connection to a server, without a session.

    Args:
        address: As for :func:`connect`; None means the server of the session in use first of all.
        token: As for :func:`connect`.
    """
    session = get_session()
    if address is None and session is not None:
        return session.server.again()
    address, token, tls = _resolve(address, token, None, None, None)
    with sessions_lock:
        return _open_server(address, token=token, tls=tls, timeout_seconds=DEFAULT_TIMEOUT_SECONDS)


def _open_server(address: str | None, **options: Any) -> Server:
    """Returns a connection to a server; to the embedded one if no address is given."""
    if address is not None:
        return Server(address, **options)
    embedded = _start_embedded()
    return Server(embedded.address, embedded=embedded, **options)


def _resolve(
    address: str | None,
    token: str | None,
    ca_file: str | os.PathLike[str] | None,
    client_certificate_file: str | os.PathLike[str] | None,
    client_key_file: str | os.PathLike[str] | None,
) -> tuple[str | None, str | None, Tls | None]:
    """Returns address, token and protection, with what the environment says of them."""
    if address is None:
        address = os.environ.get("GRADWIRE_ADDRESS") or None
    if token is None:
        token = os.environ.get("GRADWIRE_TOKEN") or None
    if address is None:
        return None, token, None
    tls = Tls.for_address(
        address,
        _file(ca_file, "GRADWIRE_CA_FILE"),
        _file(client_certificate_file, "GRADWIRE_CLIENT_CERTIFICATE_FILE"),
        _file(client_key_file, "GRADWIRE_CLIENT_KEY_FILE"),
    )
    return address, token, tls


def _file(given: str | os.PathLike[str] | None, variable: str) -> str | None:
    """Returns the file that is given, or else named by the environment."""
    return os.fspath(given) if given is not None else os.environ.get(variable) or None


def current_session() -> Session:
    """Returns the session that operations go to; connects if there is none."""
    session = get_session()
    if session is not None:
        return session
    with sessions_lock:
        return get_session() or connect()


def _start_embedded() -> EmbeddedServer:
    """Returns the embedded server; starts one if there is none, or it has ended."""
    global _embedded  # noqa: PLW0603  # one embedded server a process
    if _embedded is not None and _embedded.has_ended:
        _embedded.stop()
        _embedded = None
    if _embedded is None:
        _embedded = EmbeddedServer()
    return _embedded


def _forget_embedded() -> None:
    """In a forked child: the embedded server is the parent's."""
    global _embedded  # noqa: PLW0603
    _embedded = None


os.register_at_fork(after_in_child=_forget_embedded)
