"""What a run takes its samples from: tensors, data on the server, or a stream of batches."""

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gradwire
from gradwire.creation import as_tensor
from gradwire.datasets.description import Column, ServerData
from gradwire.datasets.gathering import stack_samples
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.utils.data.collate import default_collate
from gradwire.utils.data.dataset import TensorDataset, gather
from gradwire.utils.data.loader import DataLoader, is_iterable_dataset
from gradwire.utils.data.sampler import RandomSampler, SequentialSampler
from gradwire.v1 import values_pb2

Batch = tuple[list[Tensor], list[Tensor]]
"""Inputs and targets."""

Parts = tuple[list[Any], list[Any]]
"""The same, as tensors of gradwire or torch, or arrays."""


class Batching(NamedTuple):
    """How samples become batches, where the data says so itself, as a loader does.

    Attributes:
        batch_size: Samples of a batch.
        shuffle: Whether each epoch has a random order of its own.
        drop_last: Whether to leave out an incomplete last batch.
    """

    batch_size: int
    shuffle: bool
    drop_last: bool


class Samples(Protocol):
    """Samples for a run.

    Attributes:
        num_samples: How many there are; None if that is known only in the end.
        batching: How they become batches, if the data says so itself.
        tensors: Those of the session among them.
    """

    num_samples: int | None
    batching: Batching | None
    tensors: Sequence[Tensor]

    def example(self, size: int | None) -> Batch:
        """Returns a batch to record functions with: its values are of no concern."""
        ...

    def fill(self, message: Any, session: Session) -> None:
        """Says in a TrainRequest or Validation where the samples are."""
        ...


class Held:
    """Tensors of the session, with samples along their first dimension.

    Args:
        inputs: What the model is called with.
        targets: What the loss takes beside the outputs.
        batching: How they become batches, if that is given.
        what: What the data is called in errors.

    Raises:
        ValueError: They have different numbers of samples, or none.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        targets: Sequence[Any],
        *,
        batching: Batching | None = None,
        what: str = "the data",
    ) -> None:
        self._inputs = [as_tensor(value) for value in inputs]
        self._targets = [as_tensor(value) for value in targets]
        self.batching = batching
        lengths = sorted({len(tensor) for tensor in (*self._inputs, *self._targets)})
        if not lengths:
            raise ValueError(f"{what} is empty: there are no tensors in it")
        if len(lengths) != 1:
            raise ValueError(
                f"{what} has inputs and targets with different numbers of samples: inputs "
                f"{[len(t) for t in self._inputs]}, targets {[len(t) for t in self._targets]}"
            )
        if not lengths[0]:
            raise ValueError(f"{what} is empty: there is nothing to train on, 0 samples")
        self.num_samples: int | None = lengths[0]
        self.tensors: Sequence[Tensor] = [*self._inputs, *self._targets]

    def example(self, size: int | None) -> Batch:
        """See `Samples`."""
        return (
            [tensor[:size] for tensor in self._inputs],
            [tensor[:size] for tensor in self._targets],
        )

    def fill(self, message: Any, session: Session) -> None:
        """See `Samples`."""
        message.inputs.extend(_handles(session, self._inputs))
        message.targets.extend(_handles(session, self._targets))


class Referred:
    """Data that the server reads by itself.

    Args:
        data: What it is.
    """

    batching: Batching | None = None
    tensors: Sequence[Tensor] = ()

    def __init__(self, data: ServerData) -> None:
        self._data = data
        self.num_samples: int | None = data.num_samples
        columns = {column.name: column for column in data.columns}
        names = list(columns)
        inputs, targets = list(data.inputs), list(data.targets)
        if not inputs and not targets:
            inputs, targets = (names, []) if len(names) == 1 else (names[:-1], names[-1:])
        elif not inputs:
            inputs = [name for name in names if name not in targets]
        self._inputs = [columns[name] for name in inputs]
        self._targets = [columns[name] for name in targets]

    def example(self, size: int | None) -> Batch:
        """See `Samples`."""
        count = self._data.num_samples if size is None else size
        return (
            [_zeros(column, count) for column in self._inputs],
            [_zeros(column, count) for column in self._targets],
        )

    def fill(self, message: Any, session: Session) -> None:
        """See `Samples`."""
        del session
        message.data.CopyFrom(self._data.message())


class Streamed:
    """Batches that the program makes while the run trains.

    Args:
        batches: Yields them; asked for an iterator at the beginning of each epoch.

    Attributes:
        name: What the stream is known by in the session.

    Raises:
        ValueError: There is no batch.
    """

    num_samples: int | None = None
    batching: Batching | None = None
    tensors: Sequence[Tensor] = ()

    def __init__(self, batches: Iterable[Any]) -> None:
        self.name = uuid.uuid4().hex
        self._batches = batches
        self._rest: Iterator[Any] | None = iter(batches)
        try:
            self._first = split_batch(next(self._rest))
        except StopIteration:
            raise ValueError("the data is empty: it yields no batch") from None

    def example(self, size: int | None) -> Batch:
        """See `Samples`."""
        inputs, targets = ([as_tensor(value)[:size] for value in part] for part in self._first)
        return inputs, targets

    def fill(self, message: Any, session: Session) -> None:
        """See `Samples`."""
        del session
        message.data.stream = self.name

    def epoch(self) -> Iterator[Parts]:
        """Yields the batches of the next epoch."""
        # The first batch of the first epoch was taken to record functions with.
        rest, self._rest = self._rest, None
        if rest is None:
            yield from map(split_batch, self._batches)
        else:
            yield self._first
            yield from map(split_batch, rest)


class _Undrawn:
    """The batches of a loader; the seed that it draws for each epoch is drawn by the run."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        return self._loader.batches()


class _Batched:
    """Batches of the samples of an iterable dataset, as arrays.

    Args:
        dataset: The dataset.
        batch_size: Samples of a batch.
        drop_last: Whether to leave out an incomplete last batch.
    """

    def __init__(self, dataset: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._drop_last = drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        samples = iter(self._dataset)
        while batch := list(itertools.islice(samples, self._batch_size)):
            if self._drop_last and len(batch) < self._batch_size:
                return
            yield list(stack_samples(batch, None).values())


def samples_of(
    data: Any,
    *,
    batch_size: int | None = None,
    drop_last: bool = False,
    what: str = "the data",
) -> Samples:
    """Returns the samples of what a person gives to train on.

    Args:
        data: Inputs and targets, each a tensor or a tuple of such; a dataset or loader of
            `gradwire.utils.data`; an iterable of batches; or data on the server.
        batch_size: Samples of a batch, for iterable datasets.
        drop_last: Whether to leave out an incomplete last batch of those.
        what: What it is called in errors.

    Raises:
        ValueError: There are no samples, or lengths differ.
        TypeError: It is nothing to train on.
    """
    if isinstance(data, ServerData):
        return Referred(data)
    if isinstance(data, str):
        raise TypeError(
            f"can't train on the text {data!r}; gradwire.datasets.get({data!r}) returns the "
            "dataset of that name, and gradwire.datasets.source what is at a URI"
        )
    if _is_pair(data):
        inputs, targets = (_parts(part) for part in data)
        return Held(inputs, targets, what=what)
    if isinstance(data, DataLoader):
        batching = _batching_of(data)
        if batching is None:
            return Streamed(_Undrawn(data))
        return _held_dataset(data.dataset, batching, what)
    if is_iterable_dataset(data):
        if batch_size is None:
            raise ValueError(f"{what} has no length, so it can't be one batch; give a batch_size")
        return Streamed(_Batched(data, batch_size, drop_last))
    sized = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if sized and not isinstance(data, Mapping):
        return _held_dataset(data, None, what)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        return Streamed(data)
    raise TypeError(
        f"can't train on a {type(data).__name__}; give a pair of inputs and targets, a dataset, a "
        "loader of one, or what gradwire.datasets returns"
    )


def split_batch(batch: Any) -> Parts:
    """Returns the inputs and the targets of a batch: all parts but the last, and the last."""
    if isinstance(batch, Mapping):
        raise TypeError(
            "batches are dicts, and nothing says which parts are inputs; yield tuples of inputs "
            "and a target"
        )
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    return (parts, []) if len(parts) == 1 else (parts[:-1], parts[-1:])


def _held_dataset(dataset: Any, batching: Batching | None, what: str) -> Held:
    """Returns the samples of a dataset as tensors of the session."""
    length = len(dataset)
    if not length:
        raise ValueError(f"{what} is empty: there is nothing to train on, 0 samples")
    if type(dataset) is TensorDataset:
        columns: Any = list(dataset.tensors)
    else:
        columns = gather(dataset, range(length))
    if columns is None:
        columns = default_collate([dataset[index] for index in range(length)])
    inputs, targets = split_batch(columns)
    return Held(inputs, targets, batching=batching, what=what)


def _batching_of(loader: DataLoader) -> Batching | None:
    """Returns how a loader makes batches; None if only the loader itself can make them."""
    sampler = loader.sampler
    shuffle = type(sampler) is RandomSampler and (
        not sampler.replacement
        and sampler.generator is None
        and sampler.num_samples == len(sampler.data_source)
    )
    if (
        loader.batch_size is None
        or loader.generator is not None
        or loader.collate_fn is not default_collate
        or not (shuffle or type(sampler) is SequentialSampler)
    ):
        return None
    return Batching(batch_size=loader.batch_size, shuffle=shuffle, drop_last=loader.drop_last)


def _zeros(column: Column, count: int) -> Tensor:
    zeros: Tensor = gradwire.zeros((count, *column.shape), dtype=column.dtype)
    return zeros


def _is_pair(data: Any) -> bool:
    """Whether data is a pair of inputs and targets, and not a dataset of two samples."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        return False
    return isinstance(data, tuple) or all(hasattr(part, "shape") for part in data)


def _parts(part: Any) -> Sequence[Any]:
    holds_tensors = isinstance(part, tuple | list) and all(hasattr(p, "shape") for p in part)
    return part if holds_tensors and len(part) else [part]


def _handles(session: Session, tensors: Sequence[Tensor]) -> list[values_pb2.Value]:
    return [values_pb2.Value(handle=session.handle(tensor)) for tensor in tensors]
