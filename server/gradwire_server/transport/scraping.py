"""Where Prometheus gets the metrics: over HTTP, at an address of their own."""

from http import HTTPStatus

from aiohttp import web

from gradwire_server.access.identity import Caller, Role
from gradwire_server.access.tokens import Tokens
from gradwire_server.calls import Call
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.observability.audit import AuditLog
from gradwire_server.observability.metrics import Metrics
from gradwire_server.transport.auth import identify, require_role
from gradwire_server.transport.http_server import HttpServer

PATH = "/metrics"
_STATUSES = {
    Reason.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Reason.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
}


class Scraping:
    """Answers ``GET /metrics``, for callers who may look into the server.

    Args:
        metrics: What is told.
        tokens: Knows the callers; none if no token is asked for.
        audit: Records who is refused, if that is asked for.
        http: Where to listen.
    """

    def __init__(
        self, metrics: Metrics, tokens: Tokens | None, audit: AuditLog | None, http: HttpServer
    ) -> None:
        self._metrics = metrics
        self._tokens = tokens
        self._audit = audit
        self.http = http
        http.application.router.add_get(PATH, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        who: Caller | None = None
        try:
            who = identify(self._tokens, request.headers.get("authorization", ""))
            require_role(who, Role.MONITOR, PATH)
        except GradwireError as error:
            if self._audit is not None:
                call = Call(method=f"GET {PATH}", peer=request.remote or "")
                self._audit.record(call, who, error.reason)
            return web.Response(
                status=_STATUSES[error.reason],
                text=f"{error.message}\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        try:
            text, content_type = await self._metrics.expose(request.headers.get("accept", ""))
        except TimeoutError:
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE, text="The workers do not answer in time.\n"
            )
        response = web.Response(body=text, headers={"Content-Type": content_type})
        response.enable_compression()
        return response
