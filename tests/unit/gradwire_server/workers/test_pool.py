import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gradwire.v1 import sessions_pb2
from gradwire_server.limits import Limits
from gradwire_server.storage import StorageConfig
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.launcher import Launcher, describe_end
from gradwire_server.workers.link import LinkLostError
from gradwire_server.workers.pool import Worker, WorkerPool, WorkerState

ROOT = Path(__file__).resolve().parents[4]
FAKE_WORKER = (sys.executable, str(ROOT / "tests" / "fakes" / "worker.py"))
STORAGE = StorageConfig(url="memory://")


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Launcher(limits=Limits(), storage=STORAGE, command=FAKE_WORKER))
    yield pool
    await pool.stop(5)


async def condition(pool: WorkerPool, holds: Callable[[], bool]) -> None:
    """Waits until something holds that changes when workers do."""
    changed = asyncio.Event()
    pool.on_change.append(changed.set)
    async with asyncio.timeout(20):
        while not holds():
            changed.clear()
            await changed.wait()
    pool.on_change.remove(changed.set)


def open_session(number: int = 1) -> Frame:
    opened = sessions_pb2.Session(name="sessions/x", tenant="acme")
    payload = opened.SerializeToString()
    return Frame(kind=FrameKind.OPEN_SESSION, session=number, payload=payload)


async def test_a_worker_becomes_ready_and_says_what_it_is(pool: WorkerPool) -> None:
    pool.start(["cpu"], num_per_device=2, threads=3)
    await condition(pool, lambda: len(pool.ready) == 2)
    assert [worker.id for worker in pool.workers] == ["worker-0", "worker-1"]
    worker = pool.workers[0]
    assert worker.description.num_threads == 3
    assert worker.description.pid != pool.workers[1].description.pid
    assert worker.torch_version == "0.fake"


async def test_a_killed_worker_fails_its_calls_and_is_started_again(pool: WorkerPool) -> None:
    lost: list[Worker] = []
    pool.on_lost.append(lambda worker, link: lost.append(worker))
    pool.start(["cpu"], num_per_device=2, threads=1)
    await condition(pool, lambda: len(pool.ready) == 2)
    victim, other = pool.workers
    assert victim.link is not None
    assert other.link is not None
    pid = victim.description.pid
    await victim.link.call(open_session()).reply
    held = victim.link.call(
        Frame(kind=FrameKind.CALL, session=1, method="Backward", payload=b"\x20\x01")
    )
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(LinkLostError):
        await held.reply
    assert lost == [victim]
    assert victim.state is WorkerState.STARTING
    await other.link.call(open_session()).reply
    await condition(pool, lambda: len(pool.ready) == 2)
    assert victim.num_restarts == 1
    assert other.num_restarts == 0
    assert victim.description.pid != pid


async def test_a_worker_that_dies_at_start_is_tried_again_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays: list[float] = []
    enough = asyncio.Event()

    async def sleep(delay: float) -> None:
        delays.append(delay)
        if len(delays) == 9:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr("asyncio.sleep", sleep)
    pool = WorkerPool(
        Launcher(limits=Limits(), storage=STORAGE, command=(sys.executable, "-c", ""))
    )
    pool.start(["cpu"], num_per_device=1, threads=1)
    async with asyncio.timeout(30):
        await enough.wait()
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert pool.workers[0].state is WorkerState.STARTING
    await pool.stop(1)


async def test_stopping_ends_the_processes_and_leaves_none_behind(pool: WorkerPool) -> None:
    pool.start(["cpu"], num_per_device=2, threads=1)
    await condition(pool, lambda: len(pool.ready) == 2)
    pids = [worker.description.pid for worker in pool.workers]
    await pool.stop(10)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert {worker.state for worker in pool.workers} == {WorkerState.STOPPED}


async def test_stopping_kills_a_worker_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
    launcher = Launcher(limits=Limits(), storage=STORAGE, command=(sys.executable, "-c", stubborn))
    launched = await launcher.launch("cpu", threads=1, on_lost=lambda: None)
    await launched.end(0.05)
    assert launched.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("returncode", "expected"),
    [(-9, "was killed by SIGKILL"), (3, "ended with status 3"), (-250, "was killed by signal 250")],
)
def test_the_end_of_a_process_is_described(returncode: int, expected: str) -> None:
    assert describe_end(returncode) == expected


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [("", True), ("cuda", True), ("cuda:1", True), ("cuda:0", False), ("cpu", False), ("c", False)],
)
def test_a_worker_matches_its_device_and_the_type_of_it(wanted: str, *, matches: bool) -> None:
    assert Worker("worker-0", "cuda:1").matches(wanted) is matches
