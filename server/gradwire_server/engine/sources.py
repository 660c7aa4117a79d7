"""Where a run's samples come from: tensors of the session, datasets, files."""

from collections.abc import Sequence
from typing import Protocol

import torch

from gradwire.v1 import datasets_pb2
from gradwire_server.datasets.columns import Column
from gradwire_server.datasets.files import open_files
from gradwire_server.datasets.store import DatasetStore
from gradwire_server.datasets.tables import Table
from gradwire_server.engine.session import Session
from gradwire_server.errors import invalid

Samples = torch.Tensor | slice
"""Numbers of samples, from 0: an int64 tensor of one dimension, or a range."""

Batch = tuple[list[torch.Tensor], list[torch.Tensor]]
"""Inputs and targets of some samples, which are along the first dimension."""


class Source(Protocol):
    """Samples by number.

    Attributes:
        num_samples: How many there are.
        fingerprint: Says which data this is: equal fingerprints, equal data. Empty for tensors.
        held: Tensors that it keeps in the memory of the session.
    """

    num_samples: int
    fingerprint: str
    held: Sequence[torch.Tensor]

    def take(self, samples: Samples) -> Batch:
        """Returns inputs and targets of some samples, in the order given, on the session's device.

        They are copies: who gets them may change them.
        """
        ...


class TensorSource:
    """Samples of tensors that the session holds, along their first dimension.

    Args:
        inputs: What the model is called with, one tensor for each positional argument.
        targets: What the loss takes beside the model's outputs.

    Raises:
        GradwireError: There are no tensors or no samples, or tensors differ in how many they have.
    """

    def __init__(self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
        self.num_samples = _num_samples(inputs, targets)
        self.fingerprint = ""
        self.held = [*inputs, *targets]
        self._inputs, self._targets = inputs, targets

    def take(self, samples: Samples) -> Batch:
        """See `Source`."""
        return (
            [_select(tensor, samples) for tensor in self._inputs],
            [_select(tensor, samples) for tensor in self._targets],
        )


class TableSource:
    """Samples of a table, of which only those are read that are wanted.

    Args:
        table: The table.
        inputs: The columns that the model is called with.
        targets: The columns that the loss takes.
        device: Where the samples are to be.
    """

    def __init__(
        self, table: Table, inputs: Sequence[str], targets: Sequence[str], device: torch.device
    ) -> None:
        self.num_samples = table.schema.num_samples
        self.fingerprint = table.fingerprint
        self.held: Sequence[torch.Tensor] = ()
        columns = {column.name: column for column in table.schema.columns}
        self._table = table
        self._inputs = [columns[name] for name in inputs]
        self._targets = [columns[name] for name in targets]
        self._device = device

    def take(self, samples: Samples) -> Batch:
        """See `Source`."""
        return (
            [self._read(column, samples) for column in self._inputs],
            [self._read(column, samples) for column in self._targets],
        )

    def _read(self, column: Column, samples: Samples) -> torch.Tensor:
        numbers = samples if isinstance(samples, slice) else samples.cpu().numpy()
        rows = torch.from_numpy(self._table.take(column.name, numbers))
        # What torch does with a boolean that is neither 0 nor 1 is undefined.
        dtype = getattr(torch, column.dtype)
        values = rows != 0 if dtype is torch.bool else rows.view(dtype)
        return values.reshape(-1, *column.shape).to(self._device)


def open_source(session: Session, message: datasets_pb2.DataSource, field: str) -> TableSource:
    """Returns the samples that a message refers to.

    Args:
        session: Whose storage, limits and device are meant.
        message: A dataset or files, and which columns to take.
        field: The request field it came in, for errors.

    Raises:
        GradwireError: There is no such dataset, file or column, or it can't be read.
    """
    match message.WhichOneof("kind"):
        case "dataset":
            table = DatasetStore(session.storage, session.tenant).open(message.dataset)
        case "files":
            table = open_files(session.storage, session.limits, message.files, f"{field}.files")
        case _:
            raise invalid(field, "has no kind set; give a dataset or files")
    inputs, targets = choose_columns(table, message, field)
    return TableSource(table, inputs, targets, session.device)


def choose_columns(
    table: Table, message: datasets_pb2.DataSource, field: str
) -> tuple[list[str], list[str]]:
    """Returns the columns that are inputs and those that are targets.

    Raises:
        GradwireError: A column is named that there is not.
    """
    names = [column.name for column in table.schema.columns]
    for part, chosen in (("inputs", message.inputs), ("targets", message.targets)):
        for index, name in enumerate(chosen):
            if name not in names:
                raise invalid(
                    f"{field}.{part}[{index}]",
                    f"there is no column {name!r}; there are {', '.join(map(repr, names))}",
                )
    if not message.inputs and not message.targets:
        return (names, []) if len(names) == 1 else (names[:-1], names[-1:])
    inputs = list(message.inputs) or [name for name in names if name not in message.targets]
    if not inputs:
        raise invalid(f"{field}.inputs", "is empty, and all columns are targets")
    return inputs, list(message.targets)


def _select(tensor: torch.Tensor, samples: Samples) -> torch.Tensor:
    if isinstance(samples, slice):
        return tensor[samples].clone(memory_format=torch.contiguous_format)
    return tensor.index_select(0, samples.to(tensor.device))


def _num_samples(inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> int:
    if not inputs:
        raise invalid("inputs", "is empty; give the tensors to train on")
    num_samples = len(inputs[0])
    if not num_samples:
        raise invalid("inputs[0]", "holds no samples")
    for field, tensors in (("inputs", inputs), ("targets", targets)):
        for index, tensor in enumerate(tensors):
            if len(tensor) != num_samples:
                raise invalid(
                    f"{field}[{index}]",
                    f"holds {len(tensor)} samples, but inputs[0] holds {num_samples}",
                )
    return num_samples
