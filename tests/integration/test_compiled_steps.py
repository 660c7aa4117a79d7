"""Steps that need not be exact are compiled by a real compiler, in a server, and stay right."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import gradwire
from tests.integration.test_metrics import Watched

DEADLINE_SECONDS = 300.0
POLL_SECONDS = 0.2
# A compiler takes its time on a machine that is busy.
pytestmark = pytest.mark.timeout(2 * DEADLINE_SECONDS)
LEARNING_RATE = 0.01


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("compiled"))
    with watched.server:
        yield watched


def outcome(watched: Watched, name: str) -> float:
    return watched.total("gradwire_compiled_steps_total", outcome=name)


def until_compiled(watched: Watched, train: Callable[[], object]) -> int:
    """Trains until steps are compiled; returns how often it trained."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    before = outcome(watched, "compiled")
    number = 0
    while outcome(watched, "compiled") == before:
        for left in ("failed", "refused", "mismatched"):
            assert not outcome(watched, left)
        assert time.monotonic() < deadline
        train()
        number += 1
        # The compiler needs a core, too.
        time.sleep(POLL_SECONDS)
    return number


def build(library: Any, num_outputs: int) -> tuple[Any, Any]:
    library.manual_seed(0)
    model = library.nn.Sequential(
        *(library.nn.Linear(4, 8), library.nn.ReLU(), library.nn.Dropout(0.2)),
        library.nn.Linear(8, num_outputs),
    )
    optimizer = library.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
    return model, optimizer


def data() -> tuple[Any, Any]:
    random = np.random.default_rng(3)
    inputs = random.standard_normal((32, 4)).astype(np.float32)
    return inputs, inputs.sum(1, keepdims=True)


def labels() -> Any:
    return (data()[1][:, 0] > 0).astype(np.int64)


def loop(library: Any, model: Any, optimizer: Any, targets: Any) -> float:
    inputs, targets = library.tensor(data()[0]), library.tensor(targets)
    loss = None
    for _ in range(50):
        optimizer.zero_grad()
        loss = library.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        library.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss is not None
    return float(loss.item())


def assert_close(model: Any, expected: Any) -> None:
    for name, value in expected.state_dict().items():
        np.testing.assert_allclose(
            model.state_dict()[name].numpy(), value.numpy(), rtol=1e-3, atol=1e-4
        )


def test_a_loop_is_compiled_and_learns_what_torch_learns(watched: Watched) -> None:
    with gradwire.connect(watched.server.address, exact=False):
        model, optimizer = build(gradwire, 2)
        losses: list[float] = []
        number = until_compiled(
            watched, lambda: losses.append(loop(gradwire, model, optimizer, labels()))
        )
        expected, expected_optimizer = build(torch, 2)
        expected_losses = [
            loop(torch, expected, expected_optimizer, labels()) for _ in range(number)
        ]
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-3, atol=1e-4)
        assert_close(model, expected)
        gradient = model[0].weight.grad
        assert gradient is not None
        np.testing.assert_allclose(
            gradient.numpy(), expected[0].weight.grad.numpy(), rtol=1e-2, atol=1e-3
        )

        wrong = labels()
        wrong[5] = 77
        with pytest.raises(IndexError, match="Target 77 is out of bounds"):
            loop(gradwire, model, optimizer, wrong)
        assert_close(model, expected)


def test_a_run_is_compiled_and_says_at_which_step_numbers_went_bad(watched: Watched) -> None:
    inputs, targets = data()
    with gradwire.connect(watched.server.address):
        model, optimizer = build(gradwire, 1)

        def train(samples: Any, **options: Any) -> Any:
            return gradwire.train(
                model,
                (samples, targets),
                loss=gradwire.nn.MSELoss(),
                optimizer=optimizer,
                batch_size=8,
                shuffle=False,
                progress=False,
                checkpoint=False,
                **options,
            )

        number = until_compiled(watched, lambda: train(inputs, epochs=50))
        expected, expected_optimizer = build(torch, 1)
        criterion = torch.nn.MSELoss()
        batches = [
            (torch.tensor(inputs[i : i + 8]), torch.tensor(targets[i : i + 8]))
            for i in range(0, 32, 8)
        ]
        for _ in range(50 * number):
            torch.empty((), dtype=torch.int64).random_()  # what a loader draws for each epoch
            for batch, wanted in batches:
                expected_optimizer.zero_grad()
                criterion(expected(batch), wanted).backward()
                expected_optimizer.step()
        assert_close(model, expected)

        before = outcome(watched, "compiled")
        inputs[17, 2] = np.nan
        run = train(inputs, epochs=20, on_nonfinite="skip")
        assert len(run.warnings) == 20
        assert outcome(watched, "compiled") > before
        assert np.isfinite(model.state_dict()["0.weight"].numpy()).all()
