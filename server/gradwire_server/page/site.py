"""The HTTP server of the page, in the front's event loop."""

import shutil
import tempfile
from pathlib import Path

import grpc
from aiohttp import web

from gradwire_server.page.calls import Calls
from gradwire_server.transport.addresses import Address
from gradwire_server.transport.http_server import HttpServer
from gradwire_server.transport.options import CLIENT_OPTIONS
from gradwire_server.transport.tls import TlsFiles

STATIC = Path(__file__).parent / "static"
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


class Page:
    """Serves the page and its calls.

    The page has no rights of its own. Its calls are gRPC calls to this very server, over a unix
    socket that only this user can open, with the token of whoever reads the page; so the RPCs'
    answers, tenants, roles and limits are the page's.

    Args:
        address: Where to listen.
        tls: The files of TLS; none to speak plain HTTP.
        trusts_hosts: See `HttpServer`.
    """

    def __init__(self, address: Address, tls: TlsFiles | None, *, trusts_hosts: bool) -> None:
        self._http = HttpServer("page", address, tls, trusts_hosts=trusts_hosts)
        self._folder = Path(tempfile.mkdtemp(prefix="gradwire-page-"))
        self.rpc_address = f"unix:{self._folder / 'rpc.sock'}"
        """Where the gRPC server must listen too."""
        self._channel: grpc.aio.Channel | None = None

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._http.address

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: The address cannot be listened on.
        """
        self._channel = grpc.aio.insecure_channel(self.rpc_address, options=CLIENT_OPTIONS)
        self._add_routes(self._http.application, Calls(self._channel))
        await self._http.start()

    async def stop(self) -> None:
        """Ends; streams are cut off."""
        await self._http.stop()
        if self._channel is not None:
            await self._channel.close()
        self.remove_folder()

    def remove_folder(self) -> None:
        """Removes the folder of the socket."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _add_routes(application: web.Application, calls: Calls) -> None:
        async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(HEADERS)

        async def show_page(_: web.Request) -> web.FileResponse:
            return web.FileResponse(STATIC / "index.html")

        application.on_response_prepare.append(add_headers)
        application.router.add_post("/rpc/{method:[A-Za-z]+/[A-Za-z]+}", calls.answer)
        application.router.add_get("/", show_page)
        application.router.add_static("/", STATIC)
