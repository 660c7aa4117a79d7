"""`gradwire.train` does what a loop over a DataLoader does with local torch, to the last bit."""

import io
import os
import signal
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import gradwire
from gradwire.bar import ProgressBar
from gradwire.runs import Run
from gradwire.session import Session
from tests.parity.comparing import comparable

NUM_SAMPLES = 22


def data(num_classes: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((NUM_SAMPLES, 2, 3), dtype=np.float32)
    if num_classes:
        return inputs, random.integers(0, num_classes, NUM_SAMPLES)
    return inputs, random.standard_normal((NUM_SAMPLES, 1), dtype=np.float32)


def local_losses(
    model: Any,
    loss: Callable[..., Any],
    optimizer: Any,
    arrays: tuple[Any, Any],
    *,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int | None = None,
    clip_grad_norm: float | None = None,
) -> list[float]:
    """The loop that users write."""
    if seed is not None:
        torch.manual_seed(seed)
    dataset = TensorDataset(*[torch.from_numpy(array) for array in arrays])
    loader = DataLoader(
        dataset, batch_size=batch_size or len(dataset), shuffle=shuffle, drop_last=drop_last
    )
    losses = []
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            value.backward()
            if clip_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
            optimizer.step()
            losses.append(value.item())
    return losses


def assert_trains_the_same(
    build: Callable[[Any], tuple[Any, Any, Any]], arrays: tuple[Any, Any], **options: Any
) -> Run:
    """Asserts that losses, weights, buffers and the random numbers after training are equal.

    Args:
        build: Takes the torch to use; returns model, loss and optimizer.
        arrays: Inputs and targets.
        options: Options of `train`.
    """
    torch.manual_seed(0)
    model, loss, optimizer = build(torch)
    with redirect_stdout(io.StringIO()):
        losses = local_losses(model, loss, optimizer, arrays, **options)
    drawn = torch.rand(3)

    gradwire.manual_seed(0)
    remote_model, remote_loss, remote_optimizer = build(gradwire)
    result: Run = gradwire.train(
        remote_model,
        arrays,
        exact=True,
        loss=remote_loss,
        optimizer=remote_optimizer,
        progress=False,
        **options,
    )

    assert result.losses == losses
    assert comparable(remote_model.state_dict()) == comparable(model.state_dict())
    assert comparable(gradwire.rand(3)) == comparable(drawn)
    assert result.num_steps == len(losses)
    assert result.device == "cpu"
    return result


def plain(torch: Any) -> tuple[Any, Any, Any]:
    nn = torch.nn
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def rich(torch: Any) -> tuple[Any, Any, Any]:
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6)
            self.hidden = nn.Linear(6, 8)
            self.dropout = nn.Dropout(0.3)
            self.heads = nn.ModuleList([nn.Linear(8, 3) for _ in range(2)])
            self.scale = nn.Parameter(torch.ones(1))
            self.register_buffer("offset", torch.full((1,), 0.1))

        def forward(self, x: Any) -> Any:
            x = self.norm(x.view(x.size(0), -1))
            x = self.dropout(torch.relu(self.hidden(x)))
            batch, _ = x.shape
            ones = torch.ones(batch, 1)
            return self.scale * sum(head(x) for head in self.heads) * ones + self.offset

    model = Net()

    def loss(outputs: Any, targets: Any) -> Any:
        picked = torch.log_softmax(outputs, dim=1).gather(1, targets.view(-1, 1))
        return -picked.mean() + 0.01 * outputs.pow(2).sum() / targets.shape[0]

    return model, loss, torch.optim.Adam(model.parameters(), lr=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 3},
        {"epochs": 2, "batch_size": 5},
        {"epochs": 2, "batch_size": 5, "drop_last": True},
        {"epochs": 2, "batch_size": 8, "shuffle": False},
        {"epochs": 2, "batch_size": 4, "seed": 11},
        {"epochs": 2, "batch_size": 4, "clip_grad_norm": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("build", [plain, rich])
def test_training_equals_a_local_loop(
    build: Callable[[Any], tuple[Any, Any, Any]], options: dict[str, Any]
) -> None:
    assert_trains_the_same(build, data(3 if build is rich else 0), **options)


def test_the_mean_loss_of_the_last_epoch_is_weighted_by_samples() -> None:
    result = assert_trains_the_same(plain, data(), epochs=2, batch_size=8)

    sizes = [8, 8, 6]
    last = sum(size * loss for size, loss in zip(sizes, result.losses[-3:], strict=True))
    assert result.mean_loss == pytest.approx(last / NUM_SAMPLES, rel=1e-6)


def test_a_model_may_print_while_it_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    def build(torch: Any) -> tuple[Any, Any, Any]:
        class Talkative(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(6, 1)

            def forward(self, x: Any) -> Any:
                x = x.flatten(1)
                print(f"flat: {tuple(x.shape)}")
                return self.layer(x)

        model = Talkative()
        return model, torch.nn.L1Loss(), torch.optim.SGD(model.parameters(), lr=0.1)

    assert_trains_the_same(build, data(), epochs=2, batch_size=4)

    # Once for each size of a batch: 22 samples are five of four and one of two.
    assert capsys.readouterr().out == "flat: (4, 6)\nflat: (2, 6)\n"


def test_a_trained_model_can_be_trained_on_by_hand() -> None:
    def program(module: Any, train: Callable[..., Any]) -> Any:
        module.manual_seed(0)
        model, loss, optimizer = plain(module)
        train(model, loss, optimizer)
        x, y = (module.from_numpy(array) for array in data())
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        train(model, loss, optimizer)
        return comparable(value), comparable(model.state_dict())

    local = program(
        torch,
        lambda model, loss, optimizer: local_losses(
            model, loss, optimizer, data(), epochs=2, batch_size=4
        ),
    )
    remote = program(
        gradwire,
        lambda model, loss, optimizer: gradwire.train(
            model,
            data(),
            exact=True,
            loss=loss,
            optimizer=optimizer,
            epochs=2,
            batch_size=4,
            progress=False,
        ),
    )
    assert remote == local


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * x.mean().item(),
        lambda x: x * float(x[0, 0, 0]),
        lambda x: x * len(x.tolist()),
    ],
    ids=["if", "item", "float", "tolist"],
)
def test_a_forward_that_depends_on_values_is_refused(
    forward: Callable[[Any], Any], session: Session
) -> None:
    class Net(gradwire.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.layer = gradwire.nn.Linear(3, 1)

        def forward(self, x: Any) -> Any:
            return self.layer(forward(x)).mean(1)

    model = Net()
    optimizer = gradwire.optim.SGD(model.parameters(), lr=0.1)
    before = comparable(model.state_dict())

    with pytest.raises(ValueError, match="reads the value of a tensor"):
        gradwire.train(
            model, data(), loss=gradwire.nn.MSELoss(), optimizer=optimizer, progress=False
        )

    assert comparable(model.state_dict()) == before
    assert gradwire.ones(2).sum().item() == 2.0


def test_recording_moves_neither_random_numbers_nor_running_statistics() -> None:
    gradwire.manual_seed(0)
    model, loss, optimizer = rich(gradwire)
    before = comparable(model.state_dict())
    inputs, targets = data(3)

    with pytest.raises(ValueError, match=r"clip_grad_norm: -1\.0 is not a positive number"):
        gradwire.train(
            model, (inputs, targets), loss=loss, optimizer=optimizer, clip_grad_norm=-1.0
        )

    assert comparable(model.state_dict()) == before
    drawn = comparable(gradwire.rand(2))
    gradwire.manual_seed(0)
    rich(gradwire)
    assert drawn == comparable(gradwire.rand(2))


def test_an_interrupt_stops_the_run_and_keeps_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, loss, optimizer = plain(gradwire)
    before = comparable(model.state_dict())
    started = threading.Event()
    update = ProgressBar.update

    def tell(self: ProgressBar, event: Any, history: Any) -> None:
        if event.HasField("progress"):
            started.set()
        update(self, event, history)

    monkeypatch.setattr(ProgressBar, "update", tell)

    def interrupt() -> None:
        assert started.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        gradwire.train(
            model,
            data(),
            loss=loss,
            optimizer=optimizer,
            epochs=10_000_000,
            batch_size=2,
            on_nonfinite="skip",
        )
    thread.join()

    assert gradwire.runs.list()[0].state == "CANCELLED"
    after = comparable(model.state_dict())
    assert after != before
    assert comparable(model.state_dict()) == after
    assert gradwire.ones(2).sum().item() == 2.0


def test_the_progress_bar_tells_device_loss_and_evaluations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, loss, optimizer = plain(gradwire)
    options = {"loss": loss, "optimizer": optimizer, "epochs": 3, "batch_size": 4}
    gradwire.train(model, data(), validation=data(), progress=True, **options)

    shown = capsys.readouterr()
    assert shown.out == ""
    assert "training on cpu" in shown.err
    assert "18/18" in shown.err
    assert "epoch 3/3, loss " in shown.err
    assert "val loss " in shown.err
    assert "samples/s" in shown.err

    gradwire.train(model, data(), **options)
    gradwire.train(model, data(), progress=False, **options)
    assert capsys.readouterr() == ("", "")


def test_data_of_unequal_length_is_refused() -> None:
    model, loss, optimizer = plain(gradwire)
    inputs, targets = data()

    with pytest.raises(ValueError, match=r"22.*21|21.*22"):
        gradwire.train(
            model, (inputs, targets[:-1]), loss=loss, optimizer=optimizer, progress=False
        )


def test_functions_may_take_sizes_as_plain_numbers() -> None:
    def build(torch: Any) -> tuple[Any, Any, Any]:
        model, _, optimizer = plain(torch)

        def loss(outputs: Any, targets: Any) -> Any:
            weights = [1.0 / len(targets)] * len(targets)
            return ((outputs - targets).pow(2)[:, 0] * torch.tensor(weights)).sum()

        return model, loss, optimizer

    assert_trains_the_same(build, data(), epochs=2, batch_size=4)
