"""The HTTP server of the page, in the front's event loop."""

import ipaddress
import shutil
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from aiohttp import web

from gradwire_server.page.calls import Calls
from gradwire_server.reloading import Reloaded
from gradwire_server.transport.addresses import Address, remove_stale_socket
from gradwire_server.transport.options import CLIENT_OPTIONS
from gradwire_server.transport.tls import TlsFiles

STATIC = Path(__file__).parent / "static"
MAX_REQUEST_BYTES = 64 * 1024

HEADERS = {
    # Nothing from elsewhere, nothing inline, in no frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # What changed with a new version is seen at once; unchanged files are not sent again.
    "Cache-Control": "no-cache",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """Serves the page and its calls.

    The page has no rights of its own. Its calls are gRPC calls to this very server, over a unix
    socket that only this user can open, with the token of whoever reads the page; so the RPCs'
    answers, tenants, roles and limits are the page's.

    Args:
        address: Where to listen.
        tls: The files of TLS; none to speak plain HTTP.
        trusts_hosts: Whether any ``Host`` may be asked for. If not, it must be an IP address or
            ``localhost``: a server that asks for no token must not answer the scripts of a site
            whose name was made to lead to it (DNS rebinding).
    """

    def __init__(self, address: Address, tls: TlsFiles | None, *, trusts_hosts: bool) -> None:
        self.address = address
        self._tls = tls
        self._trusts_hosts = trusts_hosts
        self._folder = Path(tempfile.mkdtemp(prefix="gradwire-page-"))
        self.rpc_address = f"unix:{self._folder / 'rpc.sock'}"
        """Where the gRPC server must listen too."""
        self._channel: grpc.aio.Channel | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: The address cannot be listened on.
        """
        self._channel = grpc.aio.insecure_channel(self.rpc_address, options=CLIENT_OPTIONS)
        # A handler whose reader is gone is cancelled, and the call it makes with it.
        runner = web.AppRunner(
            self._make_application(Calls(self._channel)),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=0,
        )
        self._runner = runner
        await runner.setup()
        context = None if self._tls is None else _reloading_context(self._tls)
        site: web.BaseSite
        if self.address.path is None:
            site = web.TCPSite(runner, self.address.host, self.address.port, ssl_context=context)
        else:
            remove_stale_socket(self.address.path)
            site = web.UnixSite(runner, self.address.path, ssl_context=context)
        await site.start()
        if self.address.path is None:
            self.address = self.address.with_port(runner.addresses[0][1])

    async def stop(self) -> None:
        """Ends; streams are cut off."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._channel is not None:
            await self._channel.close()
        self.remove_folder()

    def remove_folder(self) -> None:
        """Removes the folder of the socket."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_application(self, calls: Calls) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            if not self._trusts_hosts and not _is_plain(request.host):
                raise web.HTTPMisdirectedRequest(text="Ask for the page by IP address.")
            return await handler(request)

        async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(HEADERS)

        async def show_page(_: web.Request) -> web.FileResponse:
            return web.FileResponse(STATIC / "index.html")

        application = web.Application(middlewares=[guard], client_max_size=MAX_REQUEST_BYTES)
        application.on_response_prepare.append(add_headers)
        application.router.add_post("/rpc/{method:[A-Za-z]+/[A-Za-z]+}", calls.answer)
        application.router.add_get("/", show_page)
        application.router.add_static("/", STATIC)
        return application


def _is_plain(host: str) -> bool:
    """Whether a ``Host`` header names an IP address or localhost."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _reloading_context(files: TlsFiles) -> ssl.SSLContext:
    """Returns a context that uses at each handshake what the files say then."""
    reloaded = Reloaded("certificates of the page", files.paths, files.load_context)

    def use_latest(handshake: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
        handshake.context = reloaded.value

    context = files.load_context()
    context.sni_callback = use_latest
    return context
