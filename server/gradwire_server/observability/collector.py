"""The state of the server as metrics: read when somebody scrapes, never kept."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gradwire.v1 import runs_pb2
from gradwire_server.buckets import COUNTERS, PHASES, SECONDS
from gradwire_server.observability.figures import Lookout, Sight
from gradwire_server.runs.record import Record
from gradwire_server.runs.registry import RunRegistry
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.workers.pool import WorkerPool, WorkerState

SCRAPE_TIMEOUT_SECONDS = 5.0
"""How long a scrape may take; Prometheus waits 10 seconds."""

MAX_RUNS = 100
"""Of how many runs that have not ended it is told how far they are: the newest."""


class StateCollector(Collector):
    """Reads the state of the server when Prometheus scrapes it.

    Args:
        pool: The workers.
        registry: The sessions.
        runs: The runs.
        lookout: Tells how workers are doing.
        version: Of gradwire.
    """

    def __init__(
        self,
        pool: WorkerPool,
        registry: SessionRegistry,
        runs: RunRegistry,
        lookout: Lookout,
        *,
        version: str,
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._runs = runs
        self._lookout = lookout
        self._version = version
        self._families: tuple[Metric, ...] = ()

    async def read(self) -> None:
        """Reads the state; `collect` returns what was read last.

        Raises:
            TimeoutError: It took longer than who scrapes would wait.
        """
        async with asyncio.timeout(SCRAPE_TIMEOUT_SECONDS):
            sight = await self._lookout.look()
        self._families = (
            InfoMetricFamily("gradwire", "The server.", {"version": self._version}),
            *self._sessions(),
            *_runs(self._runs.all()),
            *self._workers(),
            *_commands(sight),
            *_counters(sight),
            *_devices(self._pool, sight),
        )

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics."""
        return self._families

    def _sessions(self) -> Iterator[Metric]:
        by_place = ("tenant", "worker", "device")
        number = GaugeMetricFamily("gradwire_sessions", "Sessions.", labels=by_place)
        held = GaugeMetricFamily(
            "gradwire_session_bytes", "Bytes of tensors in sessions.", labels=by_place
        )
        parked = GaugeMetricFamily(
            "gradwire_parked_sessions",
            "Sessions that are kept in a checkpoint until their next command.",
            labels=("tenant",),
        )
        num_parked: Counter[str] = Counter()
        counts: Counter[tuple[str, str, str]] = Counter()
        num_bytes: Counter[tuple[str, str, str]] = Counter()
        for session in self._registry.all():
            if session.parked is not None:
                num_parked[session.owner] += 1
                continue
            place = (session.owner, session.worker.id, session.worker.device)
            counts[place] += 1
            num_bytes[place] += self._lookout.of(session).num_bytes
        for place, count in counts.items():
            number.add_metric(place, count)
            held.add_metric(place, num_bytes[place])
        for tenant, count in num_parked.items():
            parked.add_metric((tenant,), count)
        yield number
        yield parked
        yield held
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
    for worker, figures in sight.workers.items():
        for kind, phases in figures["commands"].items():
            for phase, times in phases.items():
                families[phase].add_metric(
                    (kind, worker), _cumulated(times["counts"]), times["seconds"]
                )
    yield from families.values()


def _counters(sight: Sight) -> Iterator[Metric]:
    for name, (label, text) in COUNTERS.items():
        family = CounterMetricFamily(f"gradwire_{name}", text, labels=(label, "worker"))
        for worker, figures in sight.workers.items():
            for value, count in figures["counters"][name].items():
                family.add_metric((value, worker), count)
        yield family


_PROGRESS_GAUGES: Mapping[str, tuple[str, Callable[[runs_pb2.Run], float | None]]] = {
    "gradwire_run_steps": ("Training steps that a run has taken.", lambda run: run.step),
    "gradwire_run_progress_ratio": (
        "How much of its steps a run has taken, from 0 to 1.",
        lambda run: run.step / run.num_steps if run.num_steps else None,
    ),
    "gradwire_run_epochs": (
        "Epochs that a run has done, with the part of the current one.",
        lambda run: run.step / run.steps_per_epoch if run.steps_per_epoch else None,
    ),
    "gradwire_run_steps_per_second": (
        "Training steps a second of a run, from its start on, without rests.",
        lambda run: run.step / run.elapsed_seconds if run.elapsed_seconds else None,
    ),
    "gradwire_run_loss": (
        "The mean loss of the epoch.",
        lambda run: run.mean_loss if run.step else None,
    ),
}
"""What is told of each run that has not ended; nothing if it is not known."""


def _runs(records: Sequence[Record]) -> Iterator[Metric]:
    """Yields how many runs there are, and how far those are that have not ended.

    Args:
        records: All runs, newest first.
    """
    states = GaugeMetricFamily("gradwire_runs", "Runs by state.", labels=("tenant", "state"))
    counts = Counter((record.tenant, int(record.run.state)) for record in records)
    for tenant in sorted({tenant for tenant, _ in counts}):
        # Those that are none too: a rate sees the first of a kind only if there were none before.
        for state in runs_pb2.RunState.values()[1:]:
            states.add_metric((tenant, _state_name(state)), counts[tenant, state])
    yield states
    going = [record for record in records if not record.ended][:MAX_RUNS]
    for name, (text, read) in _PROGRESS_GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=("tenant", "run"))
        for record in going:
            value = read(record.run)
            if value is not None:
                gauge.add_metric((record.tenant, record.run.name.removeprefix("runs/")), value)
        yield gauge


def _state_name(state: int) -> str:
    name = runs_pb2.RunState.Name(runs_pb2.RunState.ValueType(state))
    return name.removeprefix("RUN_STATE_").lower()


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
