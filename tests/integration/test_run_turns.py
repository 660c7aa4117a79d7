"""Runs share a worker: with each other, and with whoever works on it by hand."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire.runs import Run
from gradwire.session import Session
from gradwire.v1 import runs_pb2, runs_pb2_grpc
from tests.processes import ServerProcess

NUM_STEPS = 30_000
"""So many take two seconds: long enough to be paused on the way."""
FOREVER = 10_000_000


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ServerProcess(tmp_path_factory.mktemp("one"), threads=1) as server:
        yield server.address


def data() -> tuple[Any, Any]:
    inputs = np.random.default_rng(0).standard_normal((64, 4), dtype=np.float32)
    return inputs, inputs.sum(1, keepdims=True)


def begin(steps: int = FOREVER, **options: Any) -> tuple[Any, Run]:
    """Begins a run on a model of its own; returns both."""
    gradwire.manual_seed(0)
    model = gradwire.nn.Sequential(gradwire.nn.Linear(4, 8), gradwire.nn.Dropout(0.1))
    model.append(gradwire.nn.Linear(8, 1))
    optimizer = gradwire.optim.Adam(model.parameters(), lr=1e-4)
    run: Run = gradwire.train(
        model,
        data(),
        loss=gradwire.nn.MSELoss(),
        optimizer=optimizer,
        steps=steps,
        batch_size=8,
        exact=True,
        wait=False,
        **options,
    )
    return model, run


def step_of(session: Session, run: Run) -> int:
    """Returns how far a run is by now."""
    stub = runs_pb2_grpc.RunServiceStub(session.channel)
    answer = session.call(stub.GetRun, runs_pb2.GetRunRequest(name=run.name))
    return int(answer.run.step)


def wait_for_step(session: Session, run: Run, step: int) -> int:
    while (now := step_of(session, run)) < step:
        pass
    return now


def weights_of(model: Any) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_two_runs_on_one_worker_get_the_same_share(one_worker: str) -> None:
    with gradwire.connect(one_worker) as session, gradwire.connect(one_worker):
        runs = [begin(checkpoint=False)[1]]
        with session:
            runs.append(begin(checkpoint=False)[1])
            before = [wait_for_step(session, run, 1) for run in runs]
            wait_for_step(session, runs[0], before[0] + 10_000)
            first, second = (
                step_of(session, run) - start for run, start in zip(runs, before, strict=True)
            )
            for run in runs:
                run.cancel()

    # They take turns; what is reported of either may be a tenth of a second old.
    assert 0.6 < first / second < 1.7


def test_verbs_and_a_run_take_turns_on_one_model(one_worker: str) -> None:
    with gradwire.connect(one_worker) as session:
        model, run = begin(checkpoint=False)
        inputs, targets = map(gradwire.tensor, data())
        losses, steps = [], [wait_for_step(session, run, 1)]
        for _ in range(3):
            with gradwire.no_grad():
                losses.append(gradwire.nn.functional.mse_loss(model(inputs), targets).item())
            steps.append(wait_for_step(session, run, steps[-1] + 100))
        with gradwire.no_grad():
            assert model[2].bias.fill_(100.0).item() == 100.0
        changed = wait_for_step(session, run, steps[-1] + 100)
        run.cancel().wait()

    assert run.state == "CANCELLED"
    assert len(set(losses)) == 3
    assert steps == sorted(set(steps))
    # The run trains on from what was done by hand.
    assert max(run.losses[:changed]) > 5000 > max(run.losses[: steps[0]])


def test_a_run_that_was_paused_goes_on_and_ends_as_one_that_was_not(one_worker: str) -> None:
    with gradwire.connect(one_worker) as session:
        model, run = begin(NUM_STEPS)
        assert run.wait().state == "SUCCEEDED"
        undisturbed = weights_of(model), run.losses

    with gradwire.connect(one_worker) as session:
        model, run = begin(NUM_STEPS)
        wait_for_step(session, run, 1)
        run.pause()
        assert (run.state, run.reason) == ("PAUSED", "PAUSED")
        paused_at = step_of(session, run)
        assert paused_at < NUM_STEPS
        assert gradwire.ones(3).sum().item() == 3.0
        assert run.wait().state == "PAUSED"
        assert step_of(session, run) == paused_at

        run.resume()
        assert run.wait().state == "SUCCEEDED"

        assert (weights_of(model), run.losses) == undisturbed
