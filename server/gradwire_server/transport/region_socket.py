"""The sockets that give out the memory of regions, to whoever shows a ticket."""

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

import structlog

from gradwire.v1.regions import BESIDE, IN_SHARED_FOLDER, SHARED_FOLDER, TICKET_BYTES
from gradwire_server.sessions.regions import POSSIBLE, Region, Regions
from gradwire_server.transport.addresses import Address, remove_stale_socket

log = structlog.get_logger(__name__)

SHOW_SECONDS = 5.0
"""How long a connection may take to show a ticket."""
MAX_WAITING = 256
"""How many connections may be about to show a ticket; more are refused."""


class RegionSocket:
    """Listens for those who fetch memory. Belongs to the running event loop.

    The socket of a server on a Unix socket is beside that. A server on a TCP address has one in the
    abstract namespace, of which nothing is left however the server ends, for clients in the same
    network namespace; and one in `/dev/shm`, for those that have that in common with it, such as
    another container. What is handed out is the same, memory without a name.

    Args:
        regions: The regions.
    """

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._listening: list[socket.socket] = []
        self._paths: list[Path] = []
        self._connections: dict[socket.socket, asyncio.TimerHandle] = {}
        self._holding: dict[socket.socket, Region] = {}
        self._loop = asyncio.get_running_loop()

    def start(self, address: Address) -> None:
        """Listens. Where that is not possible no memory is shared.

        Args:
            address: Where the server listens.
        """
        if not POSSIBLE:
            return
        if address.path is not None:
            beside = address.path.with_name(address.path.name + BESIDE.removeprefix("+"))
            self._listen(BESIDE, os.fspath(beside), beside)
            return
        name = f"gradwire-{secrets.token_hex(16)}"
        self._listen(f"@{name}", f"\0{name}", None)
        if os.access(SHARED_FOLDER, os.W_OK):
            remove_stale_sockets(Path(SHARED_FOLDER))
            path = Path(SHARED_FOLDER, name)
            self._listen(os.fspath(path), os.fspath(path), path)

    def close(self) -> None:
        """Listens no more, and lets go of all connections."""
        self._regions.address, self._regions.socket_names = None, []
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())
            listening.close()
        self._listening.clear()
        self.remove()
        for connection in [*self._connections, *self._holding]:
            self._drop(connection)

    def remove(self) -> None:
        """Removes the files of sockets."""
        while self._paths:
            self._paths.pop().unlink(missing_ok=True)

    def _listen(self, name: str, where: str, path: Path | None) -> None:
        """Listens at one address, if that is possible.

        Args:
            name: What clients are told of it.
            where: The address, as `socket.bind` takes it.
            path: Its file, if it has one.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Only this user can connect to a socket with a file.
        mask = os.umask(0o177)
        try:
            if path is not None:
                remove_stale_socket(path)
            listening.bind(where)
            listening.listen(MAX_WAITING)
        except OSError as error:
            listening.close()
            log.warning("no shared memory", socket=name, error=str(error))
            return
        finally:
            os.umask(mask)
        if path is not None:
            self._paths.append(path)
        self._listening.append(listening)
        self._loop.add_reader(listening.fileno(), self._accept, listening)
        self._regions.address = self._regions.address or where
        self._regions.socket_names.append(name)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:
            # It went away again, or the process has no descriptors left for now.
            return
        connection.setblocking(False)
        if len(self._connections) >= MAX_WAITING:
            connection.close()
            return
        self._connections[connection] = self._loop.call_later(SHOW_SECONDS, self._drop, connection)
        self._loop.add_reader(connection.fileno(), self._on_readable, connection)

    def _on_readable(self, connection: socket.socket) -> None:
        try:
            shown = connection.recv(TICKET_BYTES + 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            shown = b""
        if connection in self._holding:
            # Whoever holds a region has nothing to say: it is going away.
            self._drop(connection)
            return
        claimed = self._regions.claim(shown)
        if claimed is None:
            self._drop(connection)
            return
        region, holds = claimed
        try:
            socket.send_fds(connection, [b"\0"], [region.descriptor])
        except OSError:
            if holds:
                self._regions.release(region)
            self._drop(connection)
            return
        if not holds:
            self._drop(connection)
            return
        self._connections.pop(connection).cancel()
        self._holding[connection] = region
        region.on_release.append(lambda: self._drop(connection))

    def _drop(self, connection: socket.socket) -> None:
        """Closes a connection; what it holds is released."""
        timer = self._connections.pop(connection, None)
        if timer is not None:
            timer.cancel()
        region = self._holding.pop(connection, None)
        if connection.fileno() >= 0:
            self._loop.remove_reader(connection.fileno())
            with suppress(OSError):
                connection.close()
        if region is not None:
            self._regions.release(region)


def remove_stale_sockets(folder: Path) -> None:
    """Removes what servers of this user that were killed have left in the shared folder."""
    for path in folder.glob("gradwire-*"):
        name = f"{SHARED_FOLDER}/{path.name}"
        # Those of others, and of servers that live, stay.
        with suppress(OSError):
            if IN_SHARED_FOLDER.fullmatch(name) and path.lstat().st_uid == os.geteuid():
                remove_stale_socket(path)
