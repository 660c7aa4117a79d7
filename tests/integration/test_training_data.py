"""Runs over datasets, files, loaders and transforms: the same weights in the end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradwire
from gradwire import datasets, nn, optim, transforms
from gradwire.errors import NotFoundError
from gradwire.transport.channel import open_channel
from gradwire.utils.data import DataLoader, Dataset, TensorDataset
from tests.processes import ServerProcess, Stubs

RNG = np.random.default_rng(0)
X = RNG.random((50, 4), np.float32)
Y = (X.sum(axis=1) > 2).astype(np.int64)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("training")
    with ServerProcess(folder, allowed_data_prefixes=folder) as server:
        server.folder = folder  # type: ignore[attr-defined]
        yield server


@pytest.fixture(autouse=True)
def _session(server: ServerProcess) -> Iterator[None]:
    with gradwire.connect(server.address):
        yield
        for dataset in datasets.list():
            datasets.delete(dataset.name)


def weights_after(data: Any, **options: Any) -> list[np.ndarray[Any, Any]]:
    """Trains a small net and returns its weights."""
    gradwire.manual_seed(3)
    model: Any = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    run = gradwire.train(
        model,
        data,
        exact=True,
        loss=nn.CrossEntropyLoss(),
        optimizer=optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        **{"epochs": 3, "batch_size": 16, "progress": False, **options},
    )
    assert run.state == "SUCCEEDED"
    return [parameter.detach().numpy() for parameter in model.parameters()]


def same(first: list[Any], second: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


class Samples(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        return X[index], int(Y[index])


def test_every_way_to_give_the_samples_ends_with_the_same_weights(server: Any) -> None:
    expected = weights_after((X, Y))
    np.savez(server.folder / "train.npz", x=X, y=Y)
    (server.folder / "train.csv").write_text(
        "a,b,c,d,y\n"
        + "".join(
            ",".join(map(repr, [*map(float, x), int(y)])) + "\n" for x, y in zip(X, Y, strict=True)
        )
    )
    table = datasets.source(
        f"{server.folder}/train.csv", columns={"x": ["a", "b", "c", "d"], "y": "y"}
    )
    for data in (
        (gradwire.tensor(X), gradwire.tensor(Y)),
        (torch.tensor(X), torch.tensor(Y)),
        TensorDataset(X, Y),
        TensorDataset(gradwire.tensor(X), gradwire.tensor(Y)),
        Samples(),
        datasets.upload("d", {"x": X, "y": Y}),
        datasets.upload("swapped", {"y": Y, "x": X}).select(inputs="x", targets="y"),
        datasets.source(f"{server.folder}/train.npz"),
        table,
    ):
        assert same(weights_after(data), expected), data
    for loader in (
        DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True),
        DataLoader(Samples(), batch_size=16, shuffle=True),
    ):
        assert same(weights_after(loader, batch_size=None, shuffle=False), expected)
    ordered = weights_after((X, Y), shuffle=False, drop_last=True)
    loader = DataLoader(Samples(), batch_size=16, drop_last=True)
    assert same(weights_after(loader, batch_size=None), ordered)
    assert not same(ordered, expected)


def test_a_model_written_in_python_trains_on_a_dataset() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.linear(x * 2).reshape(x.shape[0], 2)

    def weights(data: Any) -> Any:
        gradwire.manual_seed(0)
        model: Any = Net()
        run = gradwire.train(
            model,
            data,
            exact=True,
            loss=nn.functional.cross_entropy,
            optimizer=optim.Adam(model.parameters()),
            epochs=2,
            batch_size=20,
            validation={"data": data, "batch_size": 7},
            metrics="accuracy",
            progress=False,
        )
        return model.linear.weight.detach().numpy(), run.validation

    stored = datasets.upload("d", {"x": X, "y": Y})
    (expected, values), (found, others) = weights((X, Y)), weights(stored)
    assert np.array_equal(expected, found)
    assert values == others
    assert set(values) == {"accuracy", "validation_loss"}


PIXELS = RNG.integers(0, 255, (40, 1, 6, 6), np.uint8)
LABELS = np.arange(40) % 3


def test_transforms_do_what_the_same_operations_do_in_a_local_loop() -> None:
    gradwire.manual_seed(0)
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    prepare = transforms.Compose(
        [transforms.ToDtype(gradwire.float32, scale=True), transforms.Normalize([0.5], [0.25])]
    )
    gradwire.train(
        model,
        datasets.upload("images", {"images": PIXELS, "labels": LABELS}),
        exact=True,
        loss=nn.MSELoss(),
        optimizer=optim.SGD(model.parameters(), lr=0.1),
        epochs=2,
        batch_size=16,
        shuffle=False,
        transform=prepare,
        target_transform=transforms.OneHot(3),
        progress=False,
    )
    torch.manual_seed(0)
    local: Any = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    optimizer = torch.optim.SGD(local.parameters(), lr=0.1)
    pixels, labels = torch.tensor(PIXELS), torch.tensor(LABELS)
    for _ in range(2):
        for begin in range(0, 40, 16):
            x = (pixels[begin : begin + 16] / 255 - 0.5) / 0.25
            y = torch.nn.functional.one_hot(labels[begin : begin + 16], 3).float()
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(local(x), y).backward()
            optimizer.step()
    assert np.array_equal(model[1].weight.detach().numpy(), local[1].weight.detach().numpy())


def augmented(data: Any, seed: int, **options: Any) -> tuple[Any, Any]:
    gradwire.manual_seed(0)
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    run = gradwire.train(
        model,
        data,
        exact=True,
        loss=nn.CrossEntropyLoss(),
        optimizer=optim.SGD(model.parameters(), lr=0.1),
        batch_size=16,
        seed=seed,
        transform=transforms.Compose(
            [
                transforms.ToDtype(gradwire.float32, scale=True),
                transforms.RandomCrop(6, padding=1),
                transforms.RandomHorizontalFlip(),
                transforms.GaussianNoise(sigma=0.05),
            ]
        ),
        progress=False,
        **{"epochs": 2, "validation": data, **options},
    )
    return model[1].weight.detach().numpy(), run


def test_random_transforms_follow_the_seed_and_spare_the_evaluation() -> None:
    data = datasets.upload("images", {"images": PIXELS, "labels": LABELS})
    first, run = augmented(data, seed=1)
    second, again = augmented(data, seed=1)
    other, _ = augmented(data, seed=2)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert run.validation == again.validation
    # Evaluation draws nothing: a run without it trains as one with it.
    assert np.array_equal(augmented(data, seed=1, validation=None)[0], first)


def test_a_run_over_a_dataset_survives_its_worker_with_the_same_result(tmp_path: Path) -> None:
    options = {"epochs": 60, "validation": None, "checkpoint": {"every_steps": 20}}
    with ServerProcess(tmp_path) as server, gradwire.connect(server.address):
        data = datasets.upload("images", {"images": PIXELS, "labels": LABELS})
        expected = augmented(data, 5, **options)[1]
        cut = augmented(data, 5, **options, wait=False)[1]
        with open_channel(server.address) as channel:
            (worker,) = Stubs(channel).workers()
            os.kill(worker.pid, signal.SIGKILL)
        cut.wait(progress=False)
        assert cut.state == "SUCCEEDED"
        assert cut.losses == expected.losses


@pytest.mark.parametrize(
    ("labels", "message"), [(LABELS + 1, "out of bounds"), (LABELS.astype(np.float32), "expected")]
)
def test_labels_that_the_loss_refuses_are_told_in_torchs_words(labels: Any, message: str) -> None:
    data = datasets.upload("images", {"images": PIXELS.astype(np.float32), "labels": labels})
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises((IndexError, RuntimeError), match=message):
        gradwire.train(
            model,
            data,
            loss=nn.CrossEntropyLoss(),
            optimizer=optim.SGD(model.parameters(), lr=0.1),
            progress=False,
        )


def test_what_can_not_be_trained_on_is_told() -> None:
    model: Any = nn.Linear(4, 2)

    def train(data: Any, **options: Any) -> None:
        gradwire.train(
            model,
            data,
            loss=nn.CrossEntropyLoss(),
            optimizer=optim.SGD(model.parameters(), lr=0.1),
            progress=False,
            **options,
        )

    stored = datasets.upload("d", {"x": X, "y": Y})
    datasets.delete("d")
    with pytest.raises(NotFoundError, match="datasets/d"):
        train(stored)
    with pytest.raises(ValueError, match="empty"):
        train(TensorDataset(X[:0], Y[:0]))
    with pytest.raises(ValueError, match=r"inputs \[50\], targets \[4\]"):
        train((X, Y[:4]))
    with pytest.raises(TypeError, match="a dict"):
        train({"x": X})
    with pytest.raises(ValueError, match="expected sequences or numbers alone"):
        train(DataLoader(TensorDataset(X, Y), collate_fn=list))
    with pytest.raises(ValueError, match="no full batch"):
        train((X, Y), batch_size=64, drop_last=True)
    with pytest.raises(TypeError, match="transform returns"):
        train((X, Y), transform=lambda x: 3)
