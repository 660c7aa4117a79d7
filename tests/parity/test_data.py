"""Datasets, samplers and loaders compared with torch's: the same order, batches and errors."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.utils.data

import gradwire
import gradwire.utils.data
from gradwire.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

Library = Any


class Pair(NamedTuple):
    x: Any
    y: Any


def plain(value: Any) -> Any:
    """Returns a batch in a form that can be compared: tensors with dtype and elements."""
    if isinstance(value, gradwire.Tensor | torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(each) for each in value]
    return value


def same(work: Callable[[Library, Library], Any]) -> None:
    """Runs `work` with both libraries under one seed; results and random states must agree."""
    results = []
    for library, data in (
        (torch, torch.utils.data),
        (gradwire, gradwire.utils.data),
    ):
        library.manual_seed(42)
        made = plain(work(library, data))
        results.append((made, plain(library.randn(3))))
    assert results[0] == results[1]


X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


def tensors(library: Library) -> tuple[Any, Any]:
    return library.tensor(X), library.tensor(Y)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 4},
        {"batch_size": 4, "shuffle": True},
        {"batch_size": 4, "shuffle": True, "drop_last": True},
        {"shuffle": True},
        {"batch_size": None},
        {"batch_size": None, "shuffle": True},
        {"batch_size": 100, "shuffle": True, "num_workers": 0, "pin_memory": False},
    ],
)
def test_a_loader_yields_the_same_batches_over_two_epochs(options: dict[str, Any]) -> None:
    def work(library: Library, data: Library) -> Any:
        loader = data.DataLoader(data.TensorDataset(*tensors(library)), **options)
        return [len(loader), [list(loader) for _ in range(2)]]

    same(work)


@pytest.mark.parametrize(
    "make",
    [
        lambda data, n: data.RandomSampler(n),
        lambda data, n: data.RandomSampler(n, num_samples=25),
        lambda data, n: data.RandomSampler(n, replacement=True, num_samples=70),
        lambda data, n: data.RandomSampler(n, replacement=True),
        lambda data, n: data.SequentialSampler(n),
        lambda data, n: data.SubsetRandomSampler([1, 3, 5, 7]),
        lambda data, n: data.WeightedRandomSampler([0.1, 0.9, 0.4, 0.7], 20),
        lambda data, n: data.WeightedRandomSampler([0.1, 0.9, 0.4, 0.7], 3, replacement=False),
        lambda data, n: data.BatchSampler(data.RandomSampler(n), 3, True),
    ],
)
def test_samplers_draw_the_same_numbers(make: Callable[[Library, range], Any]) -> None:
    def work(library: Library, data: Library) -> Any:
        sampler = make(data, range(10))
        return [len(sampler), list(sampler), list(sampler)]

    same(work)


def test_a_generator_of_ones_own_draws_the_same() -> None:
    def work(library: Library, data: Library) -> Any:
        generator = library.Generator()
        generator.manual_seed(7)
        dataset = data.TensorDataset(*tensors(library))
        loader = data.DataLoader(dataset, batch_size=3, shuffle=True, generator=generator)
        parts = data.random_split(dataset, [0.5, 0.3, 0.2], generator=generator)
        return [list(loader), list(loader), [list(part.indices) for part in parts]]

    same(work)


def test_a_generator_of_local_torch_is_taken() -> None:
    orders = []
    for data in (torch.utils.data, gradwire.utils.data):
        generator = torch.Generator()
        generator.manual_seed(7)
        sampler: Any = data.RandomSampler(range(10), generator=generator)
        orders.append(list(sampler))
    assert orders[0] == orders[1]


@pytest.mark.parametrize("lengths", [[7, 3], [0.25, 0.75], [0.5, 0.25, 0.25]])
def test_a_random_split_is_the_same(lengths: list[Any]) -> None:
    def work(library: Library, data: Library) -> Any:
        parts = data.random_split(data.TensorDataset(*tensors(library)), lengths)
        loaders = [data.DataLoader(part, batch_size=3) for part in parts]
        return [[list(part.indices) for part in parts], [list(loader) for loader in loaders]]

    same(work)


def test_datasets_made_of_others_are_the_same() -> None:
    def work(library: Library, data: Library) -> Any:
        dataset = data.TensorDataset(*tensors(library))
        both = data.ConcatDataset([dataset, data.Subset(dataset, [3, 1])]) + dataset
        stacked = data.StackDataset(image=dataset, number=range(10))
        return [
            len(both),
            [both[index] for index in (0, 11, -1, 12)],
            list(data.DataLoader(both, batch_size=5, shuffle=True)),
            list(data.DataLoader(stacked, batch_size=4)),
            list(data.DataLoader(data.StackDataset(dataset, range(10)), batch_size=4)),
        ]

    same(work)


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2],
        [1.5, 2.5],
        [True, False],
        ["a", "b"],
        [(1, 2.0), (3, 4.0)],
        [[1, 2], [3, 4]],
        [{"a": 1, "b": [2, 3]}, {"a": 4, "b": [5, 6]}],
        [Pair(1, 2.0), Pair(3, 4.0)],
        [np.ones(2, np.float16), np.zeros(2, np.float16)],
        [np.float32(1), np.float32(2)],
        [np.int8(1), np.int8(2)],
        [(np.arange(2), "x", 1), (np.arange(2), "y", 2)],
        [torch.ones(2), torch.zeros(2)],
    ],
)
def test_samples_are_collated_as_torch_does(batch: list[Any]) -> None:
    expected = torch.utils.data.default_collate(batch)
    assert plain(gradwire.utils.data.default_collate(batch)) == plain(expected)


@pytest.mark.parametrize("sample", [np.arange(3), 1, "a", {"a": np.arange(2)}, (np.arange(2), 1)])
def test_single_samples_are_converted_as_torch_does(sample: Any) -> None:
    expected = torch.utils.data.default_convert(sample)
    assert plain(gradwire.utils.data.default_convert(sample)) == plain(expected)


@pytest.mark.parametrize(
    "batch", [[object(), object()], [np.array(["a"]), np.array(["b"])], [[1], [1, 2]], [None]]
)
def test_what_cannot_be_collated_fails_as_in_torch(batch: list[Any]) -> None:
    with pytest.raises((TypeError, RuntimeError)) as expected:
        torch.utils.data.default_collate(batch)
    with pytest.raises(expected.type):
        gradwire.utils.data.default_collate(batch)


class Squares(Dataset[Any]):
    """A dataset as users write it, over numpy."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Any:
        return {"x": np.float32(index), "y": index**2}


class Counting(IterableDataset[Any]):
    """A dataset without an end that is known."""

    def __iter__(self) -> Iterator[Any]:
        return iter(range(7))


def test_datasets_of_ones_own_work_with_both() -> None:
    class TorchCounting(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(range(7))

    def work(library: Library, data: Library) -> Any:
        counting: Any = Counting() if library is gradwire else TorchCounting()
        return [
            list(data.DataLoader(Squares(), batch_size=3, shuffle=True)),
            list(data.DataLoader(counting, batch_size=3)),
            list(data.DataLoader(counting, batch_size=3, drop_last=True)),
            list(data.DataLoader(counting, batch_size=None)),
            list(data.DataLoader(Squares(), batch_size=3, collate_fn=len)),
            list(data.DataLoader(Squares(), batch_sampler=[[1, 2], [0]])),
            list(data.DataLoader(Squares(), sampler=[5, 1], batch_size=2)),
        ]

    same(work)
    assert plain(list(DataLoader(TorchCounting(), batch_size=4))) == plain(
        list(torch.utils.data.DataLoader(TorchCounting(), batch_size=4))
    )


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
        {"persistent_workers": True},
        {"batch_size": 0},
        {"batch_size": None, "drop_last": True},
        {"sampler": [0], "shuffle": True},
        {"batch_sampler": [[0]], "batch_size": 2},
    ],
)
def test_arguments_that_contradict_each_other_fail_as_in_torch(options: dict[str, Any]) -> None:
    for data in (torch.utils.data, gradwire.utils.data):
        with pytest.raises(ValueError, match=next(iter(options)).split("_")[0]):
            data.DataLoader(range(3), **options)


@pytest.mark.parametrize("name", ["batch_size", "sampler", "drop_last", "dataset"])
def test_what_a_loader_is_made_of_can_not_be_changed(name: str) -> None:
    def change(_: Library, data: Library) -> Any:
        loader = data.DataLoader(range(4), 2)
        loader.timeout = 1.0
        with pytest.raises(ValueError, match=name) as caught:
            setattr(loader, name, getattr(loader, name))
        return str(caught.value)

    same(change)


def test_an_empty_dataset_can_not_be_shuffled() -> None:
    for data in (torch.utils.data, gradwire.utils.data):
        with pytest.raises(ValueError, match="num_samples should be a positive"):
            data.DataLoader([], shuffle=True)
    assert list(DataLoader([])) == []


def test_tensors_of_different_lengths_are_no_dataset() -> None:
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(X, Y[:5])


def test_a_dataset_of_arrays_gives_what_one_of_tensors_gives() -> None:
    gradwire.manual_seed(1)
    arrays = list(DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True))
    gradwire.manual_seed(1)
    local = TensorDataset(torch.tensor(X), torch.tensor(Y))
    assert plain(list(DataLoader(local, batch_size=3, shuffle=True))) == plain(arrays)
    gradwire.manual_seed(1)
    remote = TensorDataset(gradwire.tensor(X), gradwire.tensor(Y))
    assert plain(list(DataLoader(remote, batch_size=3, shuffle=True))) == plain(arrays)


LOOP = """
import {lib} as torch
from {lib} import nn, optim
from {lib}.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(3)
x = torch.randn(50, 4)
y = (x.sum(1) > 0).long()
train, test = random_split(TensorDataset(x, y), [40, 10])
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(3):
    model.train()
    for inputs, labels in DataLoader(train, batch_size=16, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
model.eval()
with torch.no_grad():
    correct = sum((model(a).argmax(1) == b).sum().item() for a, b in DataLoader(test, batch_size=4))
print(correct, "of", len(test))
"""


def test_a_loop_over_loaders_prints_what_torch_prints(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for library in ("torch", "gradwire"):
        exec(LOOP.format(lib=library), {})
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "of 10" in printed[0]
