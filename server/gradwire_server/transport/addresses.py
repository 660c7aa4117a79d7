"""Addresses to listen on."""

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens: a path, or a host and a port.

    Attributes:
        path: The path of a unix socket; none for TCP.
        host: A host name or IP address; empty for a unix socket.
        port: The port; 0 for any that is free.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Returns the address that ``HOST:PORT`` or ``unix:PATH`` stands for.

        Raises:
            ValueError: It is neither.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("///") else path
            if not path:
                raise ValueError(f'"{text}" lacks the path; expected unix:PATH')
            return cls(path=Path(path).absolute())
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f'"{text}" is no address; expected HOST:PORT or unix:PATH')
        return cls(host=host, port=int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this host can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_port(self, port: int) -> "Address":
        """Returns the same address with the port that was really taken."""
        return self if self.path is not None else Address(host=self.host, port=port)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def require_free(address: Address) -> None:
    """Binds an address for a moment, because servers do not say as well why they can't.

    A socket file that nobody listens on any more is removed.

    Raises:
        OSError: What keeps it from being bound, in the operating system's words.
    """
    if address.path is not None:
        remove_stale_socket(address.path)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(os.fspath(address.path))
        address.path.unlink()
        return
    failures = []
    places = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            failures.append(error)
    # A name may stand for addresses of which this host has only some, such as those of IPv4.
    if len(failures) == len(places):
        raise failures[0]


def remove_stale_socket(path: Path) -> None:
    """Removes a socket file that nobody listens on any more.

    Raises:
        FileExistsError: Somebody does listen on it, or it is no socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise FileExistsError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"another server listens on {path}")
