"""Memory that this program shares with the session's worker, if it is on the server's host."""

import contextlib
import mmap
import socket
import threading
from collections.abc import Iterable

from gradwire.errors import GradwireError, ServerUnavailableError
from gradwire.transport.server import Server
from gradwire.v1 import (
    server_pb2,
    server_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    values_pb2,
)
from gradwire.v1.regions import claim, socket_address

ALIGNMENT = 64

RING_BYTES = 32 << 20
"""How much memory a session shares, if the server lets it."""


class Ring:
    """A region that is used in turns: what is taken first is given back first.

    Positions count on for ever; their place in the region is their remainder by its size. It may
    be written to and read while another thread renews it.

    Args:
        region: The number of the region.
        memory: Its memory.
        connection: What keeps it alive at the server; none if it needs nothing.
    """

    def __init__(
        self, region: int, memory: mmap.mmap | bytearray, connection: socket.socket | None = None
    ) -> None:
        self.region = region
        self.size_bytes = len(memory)
        self._memory = memory
        self._view = memoryview(memory)
        self._connection = connection
        self._lock = threading.Lock()
        self._closed = False
        self._begin = self._end = 0

    @property
    def position(self) -> int:
        """Up to where it is taken; `free` gives everything before back."""
        return self._end

    @property
    def is_gone(self) -> bool:
        """Whether the server that it was shared with has ended."""
        with self._lock:
            if self._connection is None:
                return False
            try:
                return not self._connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
            except BlockingIOError:
                return False
            except OSError:
                return True

    def take(self, size_bytes: int) -> values_pb2.RegionSlice | None:
        """Returns a slice that nobody uses; None if there is no room before more is given back."""
        if self._begin == self._end:
            # From the beginning, which is in the processor's cache.
            self._begin = self._end = -(-self._end // self.size_bytes) * self.size_bytes
        offset = self._end % self.size_bytes
        # A slice is in one piece; what is left at the end of the region is passed over.
        skipped = self.size_bytes - offset if offset + size_bytes > self.size_bytes else 0
        taken = -(-size_bytes // ALIGNMENT) * ALIGNMENT
        if self._end + skipped + taken - self._begin > self.size_bytes:
            return None
        self._end += skipped + taken
        return values_pb2.RegionSlice(
            region=self.region, offset=(offset + skipped) % self.size_bytes, size_bytes=size_bytes
        )

    def free(self, position: int) -> None:
        """Gives back what was taken before `position` was what `position` said."""
        self._begin = max(self._begin, position)

    def rewind(self, position: int) -> None:
        """Gives back what was taken since: it was never sent."""
        self._end = max(self._begin, position)

    def write(self, piece: values_pb2.RegionSlice, elements: memoryview) -> None:
        """Fills a slice."""
        with self._lock:
            self._slice(piece)[:] = elements

    def read(self, piece: values_pb2.RegionSlice, into: memoryview) -> None:
        """Copies what is in a slice.

        Raises:
            ValueError: It is not within the region.
        """
        with self._lock:
            into[:] = self._slice(piece)

    def _slice(self, piece: values_pb2.RegionSlice) -> memoryview:
        begin, size = piece.offset, piece.size_bytes
        if piece.region != self.region or not 0 <= begin <= begin + size <= self.size_bytes:
            raise ValueError("the server has put a tensor where there is no memory for it")
        return self._view[begin : begin + size]

    def renew(self, memory: mmap.mmap | bytearray, connection: socket.socket) -> None:
        """Goes on in other memory of the same size, with everything that is in this one."""
        with self._lock:
            if self._closed:
                connection.close()
                return
            view = memoryview(memory)
            view[:] = self._view
            self._let_go()
            self._memory, self._view, self._connection = memory, view, connection

    def close(self) -> None:
        """Lets go of the memory; the server hears of it."""
        with self._lock:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._view.release()
        if isinstance(self._memory, mmap.mmap):
            # An interrupt may have left a view of it behind; it goes with that then.
            with contextlib.suppress(BufferError):
                self._memory.close()


class Sharing:
    """Makes the memory that a session shares, when there is first use for it.

    Args:
        server: The server.
        session: The session's name.
        info: What the server says of itself.
    """

    def __init__(
        self, server: Server, session: str, info: server_pb2.GetServerInfoResponse
    ) -> None:
        self._session = session
        self._stub = sessions_pb2_grpc.SessionServiceStub(server.channel)
        self._info_stub = server_pb2_grpc.ServerServiceStub(server.channel)
        self._server = server
        self._size_bytes = min(RING_BYTES, info.limits.max_session_shared_bytes)
        self._names = list(info.region_sockets)

    def ring(self) -> Ring | None:
        """Returns the memory; None if the server is on another host, or does not want to.

        It is asked for once: without it, tensors travel in messages.
        """
        names, self._names = self._names, []
        address = self._find(names)
        if address is None or self._size_bytes <= 0:
            return None
        request = sessions_pb2.CreateRegionRequest(name=self._session, size_bytes=self._size_bytes)
        try:
            made = self._server.call(self._stub.CreateRegion, request)
            connection, memory = claim(address, made.ticket)
        except (GradwireError, OSError):
            # It is full, or does not give memory to this user; the session itself will tell
            # if it is lost.
            return None
        return Ring(made.region, memory, connection)

    def renew(self, ring: Ring) -> None:
        """Shares memory with the server anew, if the one that it was shared with has ended.

        Messages and answers that name the region stay good: it has the same number and contents.

        Raises:
            GradwireError: The server does not answer, or gives none.
        """
        if not ring.is_gone:
            return
        info = self._server.call(
            self._info_stub.GetServerInfo, server_pb2.GetServerInfoRequest(), patience_seconds=0.0
        )
        address = self._find(info.region_sockets)
        request = sessions_pb2.CreateRegionRequest(
            name=self._session, size_bytes=ring.size_bytes, region=ring.region
        )
        made = self._server.call(self._stub.CreateRegion, request, patience_seconds=0.0)
        try:
            if address is None:
                raise FileNotFoundError("none of its sockets for that can be connected to")
            connection, memory = claim(address, made.ticket)
        except OSError as error:
            raise ServerUnavailableError(
                f"the server at {self._server.address} was started anew, and the memory that was "
                f"shared with the one before can't be shared with it: {error}"
            ) from error
        ring.renew(memory, connection)

    def _find(self, names: Iterable[str]) -> str | None:
        """Returns the address of a region socket that is within reach; None if there is none."""
        addresses = (socket_address(name, self._server.socket_path) for name in names)
        return next((each for each in addresses if each is not None and _reachable(each)), None)


def _reachable(address: str) -> bool:
    """Whether the server is on this host: its socket is not to be found on another."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
    return True
