"""Runs that are cut, by the death of their worker or of the server, end as if nothing had been."""

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire.runs import Run
from gradwire.transport.channel import open_channel
from gradwire.v1 import runs_pb2
from gradwire.v1.events import entries
from tests.processes import ServerProcess, Stubs

SEED = int(os.environ.get("GRADWIRE_KILL_SEED", "0"))
NUM_KILLS = int(os.environ.get("GRADWIRE_KILLS", "1"))
"""How many kills each test makes; `make test-kill` makes many."""

NUM_STEPS = 3000
LAST_KILL = 1000
"""Up to where runs are killed; they tell of their steps a few times a second."""
EVALUATION_STEPS = 50
CHECKPOINT_STEPS = 27

RECIPE: dict[str, Any] = {
    "steps": NUM_STEPS,
    "batch_size": 8,
    "clip_grad_norm": 1.0,
    "ema": 0.9,
    "metrics": ["mae"],
    "checkpoint": {"every_steps": CHECKPOINT_STEPS},
}


def begin() -> tuple[Any, Run]:
    """Begins a run that uses much of what a recipe has; returns the model, too."""
    numbers = np.random.default_rng(0)
    inputs = numbers.standard_normal((60, 4), dtype=np.float32)
    targets = inputs.sum(1, keepdims=True)
    gradwire.manual_seed(0)
    nn, schedulers = gradwire.nn, gradwire.optim.lr_scheduler
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 1))
    optimizer = gradwire.optim.AdamW(model.parameters(), lr=0.01)
    run = gradwire.train(
        model,
        (inputs, targets),
        exact=True,
        loss=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=schedulers.SequentialLR(
            optimizer,
            [
                schedulers.LambdaLR(optimizer, lambda step: (1 + step) / 300),
                schedulers.CosineAnnealingLR(optimizer, NUM_STEPS - 300),
            ],
            milestones=[300],
        ),
        validation={"data": (inputs, targets), "every_steps": EVALUATION_STEPS},
        wait=False,
        **RECIPE,
    )
    return model, run


def result_of(model: Any, run: Run) -> Any:
    """Returns what a run came to: every number it told, and every bit of the model."""
    weights = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
    average = {n: tensor.numpy().tobytes() for n, tensor in run.averaged_state_dict.items()}
    return told_by(run), weights, average


def told_by(run: Run) -> dict[str, Any]:
    """Returns every number that a run told, but those that depend on when it was asked."""
    told = {name: values.tolist() for name, values in run.history.items()}
    return {n: numbers for n, numbers in told.items() if n not in {"grad_norm", "seconds"}}


def assert_whole(run: Run) -> None:
    """Asserts that the events of a run are numbered without a gap, and tell each step once."""
    numbers, steps, evaluated = [], 0, []
    watched = gradwire.runs.attach(run.name)
    assert watched.losses == run.losses
    for event in Stubs(run._server.channel).watch(run.name):
        numbers.append(event.number)
        if event.HasField("progress"):
            steps += len(event.progress.losses)
            assert event.progress.step == steps
        elif event.HasField("validation"):
            evaluated += [evaluation.step for evaluation in entries(event.validation)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert steps == NUM_STEPS
    assert evaluated == list(range(EVALUATION_STEPS, NUM_STEPS + 1, EVALUATION_STEPS))


def wait_for_step(run: Run, step: int) -> None:
    for event in run.events():
        if event.progress.step >= step:
            return


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with (
        ServerProcess(tmp_path_factory.mktemp("undisturbed"), threads=1) as server,
        gradwire.connect(server.address),
    ):
        model, run = begin()
        run.wait()
        return result_of(model, run)


def test_a_run_whose_worker_is_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Any
) -> None:
    chosen = random.Random(SEED)
    with (
        ServerProcess(tmp_path, threads=1) as server,
        gradwire.connect(server.address),
        open_channel(server.address) as channel,
    ):
        for _ in range(NUM_KILLS):
            model, run = begin()
            wait_for_step(run, chosen.randrange(LAST_KILL))
            os.kill(Stubs(channel).workers()[0].pid, signal.SIGKILL)
            run.wait()

            assert run.state == "SUCCEEDED"
            assert result_of(model, run) == undisturbed
            assert_whole(run)
            queued, running = (
                event.state_change
                for event in Stubs(channel).watch(run.name)
                if event.HasField("state_change")
            )
            assert (queued.state, running.state) == (
                runs_pb2.RUN_STATE_QUEUED,
                runs_pb2.RUN_STATE_RUNNING,
            )
            assert not running.step % CHECKPOINT_STEPS
            assert running.step <= queued.step


def test_runs_wait_until_there_is_room_for_them(tmp_path: Path, undisturbed: Any) -> None:
    server = ServerProcess(tmp_path, threads=1)
    with server, gradwire.connect(server.address) as session:
        _, run = begin()
        wait_for_step(run, 100)
        server.kill()
        with ServerProcess(tmp_path, threads=1, max_session_bytes=1024) as cramped:
            waiting = gradwire.runs.attach(run.name)
            event = next(
                event for event in waiting.events() if event.state_change.reason == "LIMIT_EXCEEDED"
            )
            assert event.state_change.state == runs_pb2.RUN_STATE_QUEUED
            cramped.stop()
        with ServerProcess(tmp_path, threads=1) as another:
            run.wait()

            assert run.state == "SUCCEEDED", another.log()
            assert_whole(run)
            assert told_by(run) == undisturbed[0]
            session.close()


@pytest.mark.parametrize("graceful", [False, True], ids=["killed", "stopped"])
def test_a_run_whose_server_ends_goes_on_with_the_next_one(
    tmp_path: Path, undisturbed: Any, graceful: bool
) -> None:
    chosen = random.Random(SEED + 1 + graceful)
    for _ in range(NUM_KILLS):
        server = ServerProcess(tmp_path, threads=1)
        with server, gradwire.connect(server.address) as session:
            model, run = begin()
            wait_for_step(run, chosen.randrange(LAST_KILL))
            if graceful:
                server.stop()
            else:
                server.kill()
            with ServerProcess(tmp_path, threads=1) as another:
                run.wait()

                assert run.state == "SUCCEEDED", another.log()
                assert_whole(run)
                assert result_of(model, run) == undisturbed
                session.close()


def test_a_run_that_waits_for_a_worker_when_its_server_stops_goes_on_with_the_next_one(
    tmp_path: Path, undisturbed: Any
) -> None:
    server = ServerProcess(tmp_path, threads=1)
    with (
        server,
        gradwire.connect(server.address) as session,
        open_channel(server.address) as channel,
    ):
        _, run = begin()
        wait_for_step(run, 50)
        os.kill(Stubs(channel).workers()[0].pid, signal.SIGKILL)
        server.stop()
        with ServerProcess(tmp_path, threads=1) as another:
            run.wait()

            assert run.state == "SUCCEEDED", another.log()
            assert_whole(run)
            assert told_by(run) == undisturbed[0]
            session.close()


def test_a_checkpoint_that_was_tampered_with_is_not_used_but_the_one_before(
    tmp_path: Path, undisturbed: Any
) -> None:
    with (
        ServerProcess(tmp_path, threads=1) as server,
        gradwire.connect(server.address),
        open_channel(server.address) as channel,
    ):
        model, run = begin()
        next(event for event in run.events() if event.checkpoint.step)
        worker = Stubs(channel).workers()[0].pid
        os.kill(worker, signal.SIGSTOP)
        try:
            run.refresh()
            newest = run.checkpoints[-1].removeprefix("checkpoints/")
            series, number = newest.split("-")
            manifest = tmp_path / "storage" / "checkpoints" / series / f"{number}.json"
            manifest.write_bytes(manifest.read_bytes().replace(b'"step": ', b'"step": 1'))
        finally:
            os.kill(worker, signal.SIGKILL)
        run.wait()

        assert run.state == "SUCCEEDED"
        assert result_of(model, run) == undisturbed
