"""How to get the memory of a region; see `SessionService.CreateRegion`.

The memory has no name: whoever shows a ticket over the region socket gets a file descriptor of it.
It is a `memfd_create(2)` that can be neither shrunk nor grown, so that nobody who maps it can be
killed by someone else's truncation, and the kernel frees it when the last process that has it ends.
"""

import fcntl
import mmap
import os
import re
import socket

TICKET_BYTES = 32
"""How long a ticket is."""

ABSTRACT = re.compile(r"@gradwire-[0-9a-f]{32}")
"""What servers on a TCP address call their region socket."""

BESIDE = "+.regions"
"""What servers on a Unix socket call theirs: its path is that of the server's with this suffix."""

SHARED_FOLDER = "/dev/shm"  # noqa: S108  # the names in it can't be guessed
"""Where servers on a TCP address have another one, for containers that share the folder."""

IN_SHARED_FOLDER = re.compile(re.escape(SHARED_FOLDER) + r"/gradwire-[0-9a-f]{32}")
"""What they call that."""

_TIMEOUT_SECONDS = 5.0


def socket_address(name: str, server_path: str | None) -> str | None:
    """Returns the address of a region socket for `socket.connect`; None if there is none to trust.

    A name is taken from a server, which must not make its clients write to any socket it likes.

    Args:
        name: One of `GetServerInfoResponse.region_sockets`.
        server_path: The path of the server's own Unix socket, if it is reached by one.
    """
    if name == BESIDE and server_path is not None:
        return server_path + BESIDE.removeprefix("+")
    if IN_SHARED_FOLDER.fullmatch(name):
        return name
    if ABSTRACT.fullmatch(name):
        return "\0" + name.removeprefix("@")
    return None


def claim(address: str, ticket: bytes) -> tuple[socket.socket, mmap.mmap]:
    """Returns the memory of a region, and the connection that keeps it alive at the server.

    Args:
        address: As `socket_address` returns it.
        ticket: `CreateRegionResponse.ticket`.

    Raises:
        OSError: Nobody listens there, the ticket is not good, or what came is no such memory.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.connect(address)
        connection.sendall(ticket)
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not descriptors:
            raise ConnectionRefusedError("the ticket is not good")
        return connection, _mapped(descriptors[0])
    except BaseException:
        connection.close()
        raise


def _mapped(descriptor: int) -> mmap.mmap:
    try:
        if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise PermissionError("memory that others may truncate is not mapped")
        return mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    except ValueError as error:
        raise OSError(f"the memory can't be mapped: {error}") from None
    finally:
        os.close(descriptor)
