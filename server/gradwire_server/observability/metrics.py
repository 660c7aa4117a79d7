"""Metrics for Prometheus, on a port of their own.

What happens once a call is counted when it happens; everything else is read when somebody scrapes.
The names of what concerns gRPC are OpenTelemetry's, see
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ and gRFC A66.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
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
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gradwire_server.access.quotas import Quota
from gradwire_server.buckets import PHASES, SECONDS
from gradwire_server.observability.figures import Lookout, Sight
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.transport.addresses import Address
from gradwire_server.workers.pool import WorkerPool, WorkerState

log = structlog.get_logger(__name__)

SCRAPE_TIMEOUT_SECONDS = 5.0
"""How long a scrape may take; Prometheus waits 10 seconds."""


class Metrics:
    """Counts calls, and serves all metrics over HTTP.

    Args:
        pool: The workers.
        registry: The sessions.
        lookout: Tells how workers are doing.
        version: Of gradwire.
    """

    def __init__(
        self, pool: WorkerPool, registry: SessionRegistry, lookout: Lookout, *, version: str
    ) -> None:
        self._prometheus = CollectorRegistry()
        self._collector = StateCollector(pool, registry, lookout, version=version)
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


class StateCollector(Collector):
    """Reads the state of the server when Prometheus scrapes it, from a thread of its own."""

    def __init__(
        self, pool: WorkerPool, registry: SessionRegistry, lookout: Lookout, *, version: str
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._lookout = lookout
        self._version = version
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where the server runs; none while it does not listen."""

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics."""
        if self.loop is None:
            return ()
        future = asyncio.run_coroutine_threadsafe(self._read(), self.loop)
        return future.result(SCRAPE_TIMEOUT_SECONDS)

    async def _read(self) -> list[Metric]:
        sight = await self._lookout.look()
        return [
            InfoMetricFamily("gradwire", "The server.", {"version": self._version}),
            *self._sessions(sight),
            *self._workers(),
            *_commands(sight),
            *_devices(self._pool, sight),
        ]

    def _sessions(self, sight: Sight) -> Iterator[Metric]:
        by_place = ("tenant", "worker", "device")
        number = GaugeMetricFamily("gradwire_sessions", "Sessions.", labels=by_place)
        held = GaugeMetricFamily(
            "gradwire_session_bytes", "Bytes of tensors in sessions.", labels=by_place
        )
        counts: Counter[tuple[str, str, str]] = Counter()
        num_bytes: Counter[tuple[str, str, str]] = Counter()
        for session in self._registry.all():
            place = (session.owner, session.worker.id, session.worker.device)
            counts[place] += 1
            num_bytes[place] += self._lookout.of(session).num_bytes
        for place, count in counts.items():
            number.add_metric(place, count)
            held.add_metric(place, num_bytes[place])
        yield number
        yield held
        runs = GaugeMetricFamily("gradwire_runs", "Runs in progress.", labels=("tenant",))
        for tenant, used in self._registry.quotas.users(Quota.RUNS).items():
            runs.add_metric((tenant,), used)
        yield runs
        steps = CounterMetricFamily(
            "gradwire_training_steps",
            "Training steps taken; their rate is steps a second.",
            labels=("tenant", "worker"),
        )
        for worker, figures in sight.workers.items():
            for tenant, count in figures["steps"].items():
                steps.add_metric((tenant, worker), count)
        yield steps
        yield CounterMetricFamily(
            "gradwire_repeated_requests",
            "Requests and messages that came again and were answered as the first time.",
            value=self._registry.num_repeated,
        )
        yield CounterMetricFamily(
            "gradwire_sessions_created", "Sessions made.", value=self._registry.num_created
        )
        yield CounterMetricFamily(
            "gradwire_sessions_lost",
            "Sessions whose worker died.",
            value=self._registry.num_lost,
        )

    def _workers(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "gradwire_worker_ready", "Whether a worker takes sessions.", labels=("worker", "device")
        )
        restarts = CounterMetricFamily(
            "gradwire_worker_restarts",
            "How often a worker's process was started again.",
            labels=("worker", "device"),
        )
        for worker in self._pool.workers:
            place = (worker.id, worker.device)
            ready.add_metric(place, float(worker.state is WorkerState.READY))
            restarts.add_metric(place, worker.num_restarts)
        yield ready
        yield restarts


def _commands(sight: Sight) -> Iterator[Metric]:
    labels = ("kind", "worker")
    families = {
        phase: HistogramMetricFamily(
            f"gradwire_command_{phase}_seconds",
            f"Time of commands in the worker: {meaning}.",
            labels=labels,
        )
        for phase, meaning in zip(
            PHASES,
            ("waiting for their turn", "parsing", "running", "serialising the answer"),
            strict=True,
        )
    }
    failures = CounterMetricFamily(
        "gradwire_command_failures", "Commands that failed.", labels=("reason", "worker")
    )
    for worker, figures in sight.workers.items():
        for kind, phases in figures["commands"].items():
            for phase, times in phases.items():
                families[phase].add_metric(
                    (kind, worker), _cumulated(times["counts"]), times["seconds"]
                )
        for reason, count in figures["failures"].items():
            failures.add_metric((reason, worker), count)
    yield from families.values()
    yield failures


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    """Returns the buckets as Prometheus wants them: each counts those before it too."""
    total = 0
    buckets = []
    for bound, count in zip((*SECONDS, float("inf")), counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return buckets


_DEVICE_GAUGES = {
    "process_bytes": ("gradwire_worker_resident_bytes", "Memory of the worker's process."),
    "memory_used_bytes": ("gradwire_gpu_memory_used_bytes", "Memory in use on the GPU."),
    "memory_total_bytes": ("gradwire_gpu_memory_bytes", "Memory of the GPU."),
    "allocated_bytes": ("gradwire_gpu_allocated_bytes", "Memory of tensors on the GPU."),
    "utilization": ("gradwire_gpu_utilization_ratio", "How busy the GPU is, from 0 to 1."),
}


def _devices(pool: WorkerPool, sight: Sight) -> Iterator[Metric]:
    labels = ("worker", "device")
    devices = {worker.id: worker.device for worker in pool.workers}
    cpu = CounterMetricFamily(
        "gradwire_worker_cpu_seconds", "Processor time of the worker's process.", labels=labels
    )
    gauges = {
        key: GaugeMetricFamily(name, text, labels=labels)
        for key, (name, text) in _DEVICE_GAUGES.items()
    }
    for worker, figures in sight.workers.items():
        place = (worker, devices.get(worker, ""))
        for key, value in figures["device"].items():
            if key == "cpu_seconds":
                cpu.add_metric(place, value)
            else:
                gauges[key].add_metric(place, value)
    yield cpu
    yield from (gauge for gauge in gauges.values() if gauge.samples)
