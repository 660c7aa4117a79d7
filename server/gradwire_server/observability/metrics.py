"""Metrics for Prometheus.

What happens once a call is counted when it happens; everything else is read when somebody scrapes.
The names of what concerns gRPC are OpenTelemetry's, see
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ and gRFC A66.
"""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from gradwire_server.buckets import SECONDS
from gradwire_server.observability.collector import StateCollector


class Metrics:
    """Counts calls, and tells all metrics.

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
        self._refusals = Counter(
            "gradwire_limit_refusals",
            "What was refused because of a limit, by the setting.",
            ("limit",),
            registry=self._prometheus,
        )
        self._children: dict[tuple[str, str], Any] = {}

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """Returns all metrics as text.

        Args:
            accept: What formats the reader takes, as in HTTP.

        Returns:
            The text, and the content type of its format.

        Raises:
            TimeoutError: The state could not be read in time.
        """
        await self._collector.read()
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # It asks for a version that is none.
            encode, content_type = choose_encoder("")
        # Some thousands of lines: not for the event loop.
        return await asyncio.to_thread(encode, self._prometheus), content_type

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
