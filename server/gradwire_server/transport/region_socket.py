"""The socket that gives out the memory of regions, to whoever shows a ticket."""

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

import structlog

from gradwire.v1.regions import BESIDE, TICKET_BYTES
from gradwire_server.sessions.regions import POSSIBLE, Region, Regions
from gradwire_server.transport.addresses import Address, remove_stale_socket

log = structlog.get_logger(__name__)

SHOW_SECONDS = 5.0
"""How long a connection may take to show a ticket."""
MAX_WAITING = 256
"""How many connections may be about to show a ticket; more are refused."""


class RegionSocket:
    """Listens for those who fetch memory. Belongs to the running event loop.

    On Linux the socket of a server on a TCP address has no file: it is in the abstract namespace,
    so that nothing is left of it however the server ends.

    Args:
        regions: The regions.
    """

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._listening: socket.socket | None = None
        self._path: Path | None = None
        self._connections: dict[socket.socket, asyncio.TimerHandle] = {}
        self._holding: dict[socket.socket, Region] = {}
        self._loop = asyncio.get_running_loop()

    def start(self, address: Address) -> None:
        """Listens beside the server's own Unix socket, or in the abstract namespace.

        Where that is not possible no memory is shared.
        """
        if not POSSIBLE:
            return
        if address.path is None:
            name = f"@gradwire-{secrets.token_hex(16)}"
            where = "\0" + name.removeprefix("@")
        else:
            name = BESIDE
            self._path = address.path.with_name(address.path.name + BESIDE.removeprefix("+"))
            where = os.fspath(self._path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            if self._path is not None:
                remove_stale_socket(self._path)
            listening.bind(where)
            listening.listen(MAX_WAITING)
        except OSError as error:
            listening.close()
            self._path = None
            log.warning("no shared memory", error=str(error))
            return
        finally:
            os.umask(mask)
        self._listening = listening
        self._loop.add_reader(listening.fileno(), self._accept, listening)
        self._regions.address, self._regions.socket_name = where, name

    def close(self) -> None:
        """Listens no more, and lets go of all connections."""
        self._regions.address, self._regions.socket_name = None, ""
        if self._listening is not None:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()
            self._listening = None
        self.remove()
        for connection in [*self._connections, *self._holding]:
            self._drop(connection)

    def remove(self) -> None:
        """Removes the socket's file, if it has one."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

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
