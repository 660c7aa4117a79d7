"""What the server serves over HTTP: an application on an address of its own, in the event loop."""

import ipaddress
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from gradwire_server.reloading import Reloaded
from gradwire_server.transport.addresses import Address, require_free
from gradwire_server.transport.tls import TlsFiles

MAX_REQUEST_BYTES = 64 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """An HTTP server.

    Args:
        what: What it serves, for the log and for who asks for it by a wrong name.
        address: Where to listen.
        tls: The files of TLS, read again when they change; none to speak plain HTTP.
        trusts_hosts: Whether any ``Host`` may be asked for. If not, it must be an IP address or
            ``localhost``: a server that asks for no token must not answer the scripts of a site
            whose name was made to lead to it (DNS rebinding).

    Attributes:
        address: Where it listens.
        application: What it serves; routes are to be added before it starts.
    """

    def __init__(
        self, what: str, address: Address, tls: TlsFiles | None, *, trusts_hosts: bool
    ) -> None:
        self.address = address
        self._what = what
        self._tls = tls
        self._trusts_hosts = trusts_hosts
        self._runner: web.AppRunner | None = None
        self.application = web.Application(
            middlewares=[self._guard], client_max_size=MAX_REQUEST_BYTES
        )

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: The address cannot be listened on.
        """
        require_free(self.address)
        # A handler whose reader is gone is cancelled, and the call it makes with it.
        runner = web.AppRunner(
            self.application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=0,
        )
        self._runner = runner
        await runner.setup()
        context = None if self._tls is None else _reloading_context(self._what, self._tls)
        site: web.BaseSite
        if self.address.path is None:
            site = web.TCPSite(runner, self.address.host, self.address.port, ssl_context=context)
        else:
            site = web.UnixSite(runner, self.address.path, ssl_context=context)
        await site.start()
        if self.address.path is None:
            self.address = self.address.with_port(runner.addresses[0][1])

    async def stop(self) -> None:
        """Ends, if it listens; responses in progress are cut off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not self._trusts_hosts and not _is_plain(request.host):
            raise web.HTTPMisdirectedRequest(text=f"Ask for the {self._what} by IP address.")
        return await handler(request)


def _is_plain(host: str) -> bool:
    """Whether a ``Host`` header names an IP address or localhost."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _reloading_context(what: str, files: TlsFiles) -> ssl.SSLContext:
    """Returns a context that uses at each handshake what the files say then."""
    reloaded = Reloaded(f"certificates of the {what}", files.paths, files.load_context)

    def use_latest(handshake: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
        handshake.context = reloaded.value

    context = files.load_context()
    context.sni_callback = use_latest
    return context
