"""Making a gRPC server listen."""

import os

import grpc

from gradwire_server.transport.addresses import Address, require_free


def listen(
    server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None = None
) -> Address:
    """Adds an address to those that a server listens on.

    Args:
        server: The server, not started yet.
        address: Where to listen. Nobody but this user may open a unix socket.
        credentials: Those of TLS; none to speak without.

    Returns:
        The address with the port that was really taken.

    Raises:
        OSError: The address cannot be listened on.
    """
    require_free(address)
    mask = os.umask(0o177)
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials)
    except RuntimeError as error:
        raise OSError(str(error)) from None
    finally:
        os.umask(mask)
    return address.with_port(port)
