"""A proxy between a client and a server that can lose what the server says."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self

CHUNK_BYTES = 65536


class Proxy:
    """Forwards connections on a unix socket to the unix socket of a server.

    Args:
        path: Where it listens.
        server_address: ``unix:PATH`` of the server.

    Attributes:
        address: Where it listens.
        swallowed: Set once something of the server's was swallowed.
        num_client_bytes: How much the client has said by now.
        cut_at_bytes: Cuts all connections when the client has said so much; once.
    """

    def __init__(self, path: Path, server_address: str) -> None:
        self.address = f"unix:{path}"
        self.swallowed = threading.Event()
        self._server_path = server_address.removeprefix("unix:")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._swallowing = False
        self._sockets: list[socket.socket] = []
        self.num_connections = 0
        self.num_client_bytes = 0
        self.cut_at_bytes: int | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A shutdown wakes the thread that accepts; a close alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def swallow(self) -> None:
        """Loses everything that the server says from now on; what the client says still arrives."""
        self.swallowed.clear()
        self._swallowing = True

    def cut(self) -> None:
        """Cuts all connections; new ones work."""
        self._swallowing = False
        sockets, self._sockets = self._sockets, []
        for connected in sockets:
            with contextlib.suppress(OSError):  # the other end may have closed it
                connected.shutdown(socket.SHUT_RDWR)

    def _count(self, num_bytes: int) -> None:
        self.num_client_bytes += num_bytes
        if self.cut_at_bytes is not None and self.num_client_bytes >= self.cut_at_bytes:
            self.cut_at_bytes = None
            self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server_path)
            except OSError:  # the server is not there now
                client.close()
                server.close()
                continue
            self.num_connections += 1
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, target, source is server), daemon=True
                ).start()

    def _pump(self, source: socket.socket, target: socket.socket, from_server: bool) -> None:
        with source:
            with contextlib.suppress(OSError):  # the connection was cut
                while data := source.recv(CHUNK_BYTES):
                    if not from_server:
                        self._count(len(data))
                    if from_server and self._swallowing:
                        self.swallowed.set()
                    else:
                        target.sendall(data)
            with contextlib.suppress(OSError):  # the other direction has closed it
                target.shutdown(socket.SHUT_RDWR)
