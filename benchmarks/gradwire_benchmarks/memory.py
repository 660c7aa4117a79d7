"""Line 10: the worker's memory for each session that is there and does nothing."""

from collections.abc import Iterator
from pathlib import Path

from gradwire_benchmarks.crowd import (
    NET,
    NUM_PROCESSES,
    QUICK_PROCESSES,
    QUICK_SESSIONS,
    Clients,
)
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.plan import LeftOutError
from gradwire_benchmarks.server import BenchServer
from gradwire_benchmarks.workbench import Workbench

SUITE = "memory"
NUM_SESSIONS = 1000
NUM_STEPS = 3
MAX_ROUNDS = 3
"""Each has a server of its own, which is filled anew."""


def measure_memory(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise LeftOutError("this system does not tell the memory of a process in /proc")
    num_sessions = QUICK_SESSIONS if bench.plan.quick else NUM_SESSIONS
    num_processes = QUICK_PROCESSES if bench.plan.quick else NUM_PROCESSES
    yield (
        f"{num_sessions:,} sessions",
        [
            _round(num_sessions, num_processes)
            for _ in range(min(bench.plan.num_rounds, MAX_ROUNDS))
        ],
    )


def _round(num_sessions: int, num_processes: int) -> Sample:
    """Returns how much a worker grows by sessions that each made the net and took some steps."""
    with (
        BenchServer(max_sessions=num_sessions + num_processes) as server,
        # What the first sessions bring along for all: code and caches.
        Clients(
            server.address, NET, num_processes=num_processes, num_sessions=num_processes
        ) as first,
        Clients(
            server.address, NET, num_processes=num_processes, num_sessions=num_sessions
        ) as clients,
    ):
        first.open(NUM_STEPS)
        before = private_bytes(server.worker.pid)
        clients.open(NUM_STEPS)
        grown = private_bytes(server.worker.pid) - before
        # To end so many sessions one by one takes long, and the server ends anyway.
        clients.abandon()
    return {"session": grown / num_sessions, "state": float(NET.state_bytes)}


def private_bytes(pid: int) -> int:
    """Returns the memory of a process that no other one has a share in (USS).

    See ``proc_pid_smaps(5)``; its numbers are in KiB.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
