"""What becomes of runs when the storage is full, or refuses, in the midst of them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire.errors import StorageError
from gradwire.runs import Run
from gradwire.transport.channel import open_channel
from gradwire.v1 import runs_pb2
from tests.processes import ServerProcess, Stubs

STEPS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(folder) as server:
        yield server


@pytest.fixture
def stubs(server: ServerProcess) -> Iterator[Stubs]:
    """Plain stubs; the SDK has a session of its own there."""
    with gradwire.connect(server.address), open_channel(server.address) as channel:
        yield Stubs(channel)


def begin() -> Run:
    inputs = np.random.default_rng(0).standard_normal((64, 4), dtype=np.float32)
    model = gradwire.nn.Linear(4, 1)
    run: Run = gradwire.train(
        model,
        (inputs, inputs.sum(1, keepdims=True)),
        loss=gradwire.nn.MSELoss(),
        optimizer=gradwire.optim.SGD(model.parameters(), lr=0.01),
        steps=STEPS,
        batch_size=8,
        checkpoint={"every_steps": 5},
        wait=False,
    )
    return run


@contextmanager
def full(pid: int) -> Iterator[None]:
    """Lets a process write nothing to files, which fails as a full disk does."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def kept_on_disk(folder: Path, run: Run) -> list[str]:
    """Returns the names of the checkpoints of a run whose manifest is in the storage."""
    series = run.name.removeprefix("runs/")
    found = (folder / "storage" / "checkpoints" / series).glob("*.json")
    return sorted(f"checkpoints/{series}-{path.stem}" for path in found)


def test_a_run_whose_checkpoints_find_no_room_warns_once_and_trains_on(
    folder: Path, stubs: Stubs
) -> None:
    run = begin()
    next(event for event in run.events() if event.HasField("checkpoint"))
    with full(stubs.workers()[0].pid):
        run.wait()

    assert run.state == "SUCCEEDED"
    assert run.num_steps == STEPS
    (warning,) = run.warnings
    assert "no checkpoint was written at step" in warning
    assert "the server's storage is full" in warning
    assert "delete datasets or checkpoints" in warning
    # What could not be written whole is not there, but what was written before is.
    assert gradwire.restore(run.checkpoints[-1]).objects
    assert kept_on_disk(folder, run) == run.checkpoints
    assert not list((folder / "storage" / ".scratch").glob("*"))


def test_events_wait_for_a_full_storage_and_none_is_lost(
    folder: Path, server: ServerProcess, stubs: Stubs
) -> None:
    known = stored_runs(folder)
    with (
        full(server.process.pid),
        pytest.raises(StorageError, match=r"the server's storage is full: .*; delete"),
    ):
        begin()
    assert stored_runs(folder) == known
    run = begin()
    with full(server.process.pid):
        request = runs_pb2.GetRunRequest(name=run.name)
        while stubs.runs.GetRun(request).run.step < STEPS:
            pass
    run.wait()

    assert run.state == "SUCCEEDED"
    assert run.num_steps == STEPS
    numbers = [event.number for event in stubs.watch(run.name)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert kept_on_disk(folder, run) == run.checkpoints


def test_a_storage_that_refuses_is_told_from_one_that_is_full(folder: Path, stubs: Stubs) -> None:
    checkpoints = folder / "storage" / "checkpoints"
    before = sorted(checkpoints.glob("*/*.json"))
    runs, aside = folder / "storage" / "runs", folder / "aside"
    runs.mkdir(exist_ok=True)
    runs.rename(aside)
    runs.write_text("a file where a folder should be")
    try:
        with pytest.raises(StorageError, match="the server's storage refused to write runs/"):
            begin()
    finally:
        runs.unlink()
        aside.rename(runs)
    assert sorted(checkpoints.glob("*/*.json")) == before
    assert begin().wait().state == "SUCCEEDED"


def stored_runs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "storage" / "runs").glob("*"))


def test_a_dataset_larger_than_the_memory_of_a_worker_trains_without_growing(
    tmp_path: Path,
) -> None:
    limit = 16 * 2**20
    pixels = np.random.default_rng(0).integers(0, 256, (2 * limit // 1024, 1024), np.uint8)
    labels = np.arange(len(pixels)) % 10
    with (
        ServerProcess(tmp_path, max_session_bytes=limit) as server,
        gradwire.connect(server.address),
        open_channel(server.address) as channel,
    ):
        data: Any = gradwire.datasets.upload("large", {"pixels": pixels, "labels": labels})
        model = gradwire.nn.Linear(1024, 10)

        def train(**options: Any) -> Run:
            run: Run = gradwire.train(
                model,
                data,
                loss=gradwire.nn.CrossEntropyLoss(),
                optimizer=gradwire.optim.SGD(model.parameters(), lr=0.01),
                batch_size=512,
                transform=gradwire.transforms.ToDtype(gradwire.float32, scale=True),
                **options,
            )
            return run

        train(steps=2)
        pid = Stubs(channel).workers()[0].pid
        before = private_bytes(pid)
        assert train(epochs=1).num_steps == 64
        # Of the data, twice the limit, nothing stays; what torch makes for itself does.
        assert private_bytes(pid) - before < limit


def private_bytes(pid: int) -> int:
    """Returns how much memory a process has that is no file of its."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024
