"""Metrics for Prometheus, on a port of their own.

What happens once a call is counted when it happens; everything else is read when somebody scrapes.
The names of what concerns gRPC are OpenTelemetry's, see
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ and gRFC A66.
"""

import asyncio
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client import Counter as PrometheusCounter

from gradwire_server.buckets import SECONDS
from gradwire_server.observability.collector import StateCollector
from gradwire_server.transport.addresses import Address

log = structlog.get_logger(__name__)


class Metrics:
    """Counts calls, and serves all metrics over HTTP.

    Args:
        collector: Reads everything else.
    """

    def __init__(self, collector: StateCollector) -> None:
        self._prometheus = CollectorRegistry()
        self._collector = collector
        self._prometheus.register(self._collector)
        ProcessCollector(registry=self._prometheus)
        self._durations = Histogram(
            "grpc_server_call_duration_seconds",
            "How long calls took, by method and status.",
            ("grpc_method", "grpc_status"),
            buckets=SECONDS,
            registry=self._prometheus,
        )
        self._in_flight = Gauge(
            "gradwire_calls_in_flight", "Calls in progress.", registry=self._prometheus
        )
        self._refusals = PrometheusCounter(
            "gradwire_limit_refusals",
            "What was refused because of a limit, by the setting.",
            ("limit",),
            registry=self._prometheus,
        )
        self._children: dict[tuple[str, str], Any] = {}
        self._server: tuple[WSGIServer, Thread] | None = None

    def serve(self, address: Address) -> None:
        """Begins to listen.

        Raises:
            OSError: The address is taken.
        """
        self._collector.loop = asyncio.get_running_loop()
        self._server = start_http_server(address.port, address.host, self._prometheus)
        log.info("metrics", address=str(address.with_port(self._server[0].server_port)))

    def close(self) -> None:
        """Ends listening, if it does."""
        if self._server is not None:
            server, _ = self._server
            self._server = None
            server.shutdown()
            server.server_close()

    def begin_call(self) -> None:
        """Counts a call that begins."""
        self._in_flight.inc()

    def end_call(self, method: str, status: str, seconds: float, *, limit: str = "") -> None:
        """Counts a call that ends.

        Args:
            method: ``package.Service/Method``.
            status: Such as ``OK``.
            seconds: How long it took.
            limit: The limit that it was refused for, if it was.
        """
        self._in_flight.dec()
        child = self._children.get((method, status))
        if child is None:
            child = self._children[method, status] = self._durations.labels(method, status)
        child.observe(seconds)
        if limit:
            self._refusals.labels(limit).inc()
