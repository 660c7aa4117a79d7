"""Line 9: many sessions that train at once, from several client processes, against one alone."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Self

import gradwire
from gradwire.session import Session
from gradwire_benchmarks.loop import Loop
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.nets import NETS, Net
from gradwire_benchmarks.processes import CONTEXT, make_process
from gradwire_benchmarks.workbench import Workbench

SUITE = "crowd"
NET = NETS[0]
NUM_PROCESSES, NUM_SESSIONS = 8, 64
QUICK_PROCESSES, QUICK_SESSIONS = 2, 4
READ_EVERY = 100
START_TIMEOUT_SECONDS = 60.0
LEAST_SECONDS = 3.0
"""A session of many takes few steps a second, and some of them have to be counted."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How far a session came.

    Attributes:
        num_steps: How many steps it took.
        seconds: From the common start until its last loss was read.
    """

    num_steps: int
    seconds: float


class Clients:
    """Processes that hold sessions of the same server, a thread for each while they train.

    Args:
        address: The server's.
        num_processes: How many processes.
        num_sessions: How many sessions in all; a multiple of it.
        net: What each session trains.
    """

    def __init__(self, address: str, net: Net, *, num_processes: int, num_sessions: int) -> None:
        self._num_each = num_sessions // num_processes
        barrier = CONTEXT.Barrier(num_sessions)
        self._executors = [
            make_process(_start, address, net, barrier) for _ in range(num_processes)
        ]

    def open(self, num_steps: int) -> None:
        """Opens the sessions, each of which makes the net and takes some steps."""
        opened = [each.submit(_open, self._num_each, num_steps) for each in self._executors]
        for each in opened:
            each.result()

    def run_all(self, seconds: float) -> list[Pace]:
        """Lets all sessions train at once for a while."""
        running = [each.submit(_run_all, seconds) for each in self._executors]
        return [pace for each in running for pace in each.result()]

    def run_one(self, seconds: float) -> Pace:
        """Lets one session train alone."""
        return self._executors[0].submit(_run_one, seconds).result()

    def __enter__(self) -> Self:
        return self

    def abandon(self) -> None:
        """Ends the processes at once, without a word to the server."""
        for each in self._executors:
            with suppress(BrokenProcessPool):
                each.submit(os._exit, 0).result()
            each.shutdown()
        self._executors.clear()

    def __exit__(self, *_: object) -> None:
        for closing in [each.submit(_close) for each in self._executors]:
            closing.result()
        for each in self._executors:
            each.shutdown()


def measure_crowd(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds."""
    plan = bench.plan
    num_processes = QUICK_PROCESSES if plan.quick else NUM_PROCESSES
    num_sessions = QUICK_SESSIONS if plan.quick else NUM_SESSIONS
    seconds = 0.0 if plan.quick else max(plan.burst_seconds, LEAST_SECONDS)
    with Clients(
        bench.server.address, NET, num_processes=num_processes, num_sessions=num_sessions
    ) as clients:
        clients.open(num_steps=READ_EVERY)
        rounds = [round_of(clients, seconds, backwards=bool(n % 2)) for n in range(plan.num_rounds)]
    yield f"{num_sessions} sessions, {num_processes} processes", rounds


def round_of(clients: Clients, seconds: float, *, backwards: bool) -> Sample:
    """Returns the sample of one round: the crowd, and one session alone."""
    if backwards:
        paces, alone = clients.run_all(seconds), clients.run_one(seconds)
    else:
        alone, paces = clients.run_one(seconds), clients.run_all(seconds)
    return {"alone": alone.seconds / alone.num_steps} | summarize(paces)


def summarize(paces: Sequence[Pace]) -> Sample:
    """Returns seconds a step: of all sessions together, of the slowest, and of a mean one."""
    rates = [pace.num_steps / pace.seconds for pace in paces]
    return {
        "crowd": 1 / sum(rates),
        "slowest": 1 / min(rates),
        "fair share": len(rates) / sum(rates),
    }


@dataclass(kw_only=True)
class _Client:
    """What a client process has."""

    address: str
    net: Net
    barrier: Barrier
    sessions: list[tuple[Session, Loop]]


_client: _Client


def _start(address: str, net: Net, barrier: Barrier) -> None:
    global _client  # noqa: PLW0603  # the process is made for it
    _client = _Client(address=address, net=net, barrier=barrier, sessions=[])


def _open(num_sessions: int, num_steps: int) -> None:
    for _ in range(num_sessions):
        session = gradwire.connect(_client.address)
        loop = Loop(gradwire, _client.net)
        loop.run(num_steps, num_steps)
        _client.sessions.append((session, loop))


def _run_all(seconds: float) -> list[Pace]:
    def run(loop: Loop) -> Pace:
        _client.barrier.wait(START_TIMEOUT_SECONDS)
        return _run(loop, seconds)

    loops = [loop for _, loop in _client.sessions]
    with ThreadPoolExecutor(len(loops)) as threads:
        return list(threads.map(run, loops))


def _run_one(seconds: float) -> Pace:
    return _run(_client.sessions[0][1], seconds)


def _run(loop: Loop, seconds: float) -> Pace:
    began = time.perf_counter()
    num_steps = loop.run_for(seconds, READ_EVERY)
    return Pace(num_steps=num_steps, seconds=time.perf_counter() - began)


def _close() -> None:
    for session, _ in _client.sessions:
        session.close()
    _client.sessions.clear()
