"""Datasets: samples by number, or one after the other."""

import itertools
import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from gradwire.tensors import Tensor
from gradwire.utils.data.randomness import permutation

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Base of datasets: samples by number.

    A subclass defines ``__getitem__``, ``__len__`` for most samplers, and optionally
    ``__getitems__``, which returns the samples of a list of numbers.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: "Dataset[Any]") -> "ConcatDataset":
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co], Iterable[T_co]):
    """Base of datasets whose samples come one after the other; a subclass defines ``__iter__``."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Dataset[Any]) -> "ChainDataset":  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Samples along the first dimension of tensors or arrays.

    Args:
        tensors: Tensors of gradwire or torch, or arrays, with the same number of samples each.

    Raises:
        AssertionError: They have different numbers of samples.
    """

    def __init__(self, *tensors: Any) -> None:
        if any(len(tensors[0]) != len(tensor) for tensor in tensors):
            raise AssertionError("Size mismatch between tensors")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class StackDataset(Dataset[Any]):
    """Samples of several datasets side by side.

    Args:
        args: Datasets whose samples become tuples.
        kwargs: Datasets whose samples become dicts.

    Raises:
        ValueError: There are none, both kinds, or they have different lengths.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or"
                "``dict``- (via ``kwargs``) like input/output, but both types are given."
            )
        self.datasets: Any = args or kwargs
        if not self.datasets:
            raise ValueError("At least one dataset should be passed")
        datasets = list(args or kwargs.values())
        self._length = len(datasets[0])
        if any(len(dataset) != self._length for dataset in datasets):
            raise ValueError("Size mismatch between datasets")

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[Any]):
    """The samples of several datasets, one dataset after the other.

    Args:
        datasets: Datasets with samples by number.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(itertools.accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        number = bisect_right(self.cumulative_sizes, index)
        begin = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][index - begin]


class ChainDataset(IterableDataset[Any]):
    """The samples of several iterable datasets, one dataset after the other.

    Args:
        datasets: The datasets.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        super().__init__()
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError("ChainDataset only supports IterableDataset")
            yield from dataset

    def __len__(self) -> int:
        return sum(map(len, self.datasets))


class Subset(Dataset[Any]):
    """Some samples of a dataset.

    Args:
        dataset: The dataset.
        indices: Their numbers.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        chosen = [self.indices[index] for index in indices]
        if callable(getattr(self.dataset, "__getitems__", None)):
            items: list[Any] = self.dataset.__getitems__(chosen)
            return items
        return [self.dataset[index] for index in chosen]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Any = None
) -> list[Subset]:
    """Splits a dataset at random.

    Args:
        dataset: The dataset.
        lengths: How many samples each part gets, or which fraction of them; fractions are rounded
            down, and what is left over goes to the parts in turn.
        generator: What draws; the session's random state by default.

    Raises:
        ValueError: The lengths do not add up.
    """
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for index, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {index} is not between 0 and 1")
        sizes = [math.floor(len(dataset) * fraction) for fraction in lengths]
        for index in range(len(dataset) - sum(sizes)):
            sizes[index % len(sizes)] += 1
        for index, size in enumerate(sizes):
            if not size:
                warnings.warn(
                    f"Length of split at index {index} is 0. "
                    f"This might result in an empty dataset.",
                    stacklevel=2,
                )
    else:
        sizes = [int(length) for length in lengths]
    if sum(sizes) != len(dataset):
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = permutation(len(dataset), generator)
    return [
        Subset(dataset, order[end - size : end])
        for end, size in zip(itertools.accumulate(sizes), sizes, strict=True)
    ]


def gather(dataset: Any, indices: Sequence[int]) -> list[Any] | None:
    """Returns samples of a dataset stacked column by column, without making each of them first.

    Args:
        dataset: The dataset.
        indices: The samples' numbers.

    Returns:
        What `default_collate` would make of the samples; None if the dataset makes samples in a way
        of its own.
    """
    if type(dataset) is Subset:
        return gather(dataset.dataset, [dataset.indices[index] for index in indices])
    if type(dataset) is not TensorDataset:
        return None
    rows = np.asarray(indices, np.int64)
    return [_rows(tensor, rows) for tensor in dataset.tensors]


def _rows(tensor: Any, rows: "np.ndarray[Any, np.dtype[np.int64]]") -> Any:
    # An array is sent as a tensor; no type of torch says so.
    index: Any = rows
    return tensor.index_select(0, index) if isinstance(tensor, Tensor) else tensor[rows]
