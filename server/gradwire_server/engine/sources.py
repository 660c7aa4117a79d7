"""Where a run's samples come from: tensors of the session, datasets, files."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from gradwire.v1 import datasets_pb2, values_pb2
from gradwire_server.datasets.columns import Column
from gradwire_server.datasets.files import open_files
from gradwire_server.datasets.store import DatasetStore
from gradwire_server.datasets.tables import Table
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import GradwireError, Reason, invalid

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


@register
class TensorSource:
    """Samples of tensors that the session holds, along their first dimension.

    Args:
        inputs: What the model is called with, one tensor for each positional argument.
        targets: What the loss takes beside the model's outputs.
        field: What comes before the names of the fields in errors, such as ``validation.``.

    Raises:
        GradwireError: There are no tensors or no samples, or tensors differ in how many they have.
    """

    def __init__(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], field: str = ""
    ) -> None:
        self.num_samples = _num_samples(inputs, targets, field)
        self.fingerprint = ""
        self.held: Sequence[torch.Tensor] = [*inputs, *targets]
        self._inputs, self._targets = inputs, targets

    def take(self, samples: Samples) -> Batch:
        """See `Source`."""
        return (
            [_select(tensor, samples) for tensor in self._inputs],
            [_select(tensor, samples) for tensor in self._targets],
        )


@register
class TableSource:
    """Samples of a table, of which only those are read that are wanted.

    Args:
        message: What the table and its columns are chosen by.
        table: The table.
        inputs: The columns that the model is called with.
        targets: The columns that the loss takes.
        device: Where the samples are to be.
    """

    def __init__(
        self,
        message: datasets_pb2.DataSource,
        table: Table,
        inputs: Sequence[str],
        targets: Sequence[str],
        device: torch.device,
    ) -> None:
        self._message = message
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

    def __getstate__(self) -> dict[str, Any]:
        # A checkpoint says which data it is; the data itself stays where it is.
        return {"message": self._message.SerializeToString(), "fingerprint": self.fingerprint}

    @staticmethod
    def rebuild_state(state: dict[str, Any], context: Any) -> "TableSource":
        """Returns the source of a state.

        Raises:
            GradwireError: The data is gone, or is other data by now.
        """
        message = datasets_pb2.DataSource.FromString(state["message"])
        source = open_source(context.session, message, "data")
        if source.fingerprint != state["fingerprint"]:
            raise GradwireError(
                Reason.REQUEST_CHANGED,
                "the data of the run was changed or replaced since its checkpoint was written, so "
                "it can't go on as it would have",
            )
        return source

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
    return TableSource(message, table, inputs, targets, session.device)


def open_samples(session: Session, request: Any, field: str) -> Source:
    """Returns the samples of a request.

    Args:
        session: The session.
        request: A TrainRequest or a Validation.
        field: What comes before the names of its fields in errors, such as ``validation.``.

    Raises:
        GradwireError: There are none, or they can't be read.
    """
    if not request.HasField("data"):
        return TensorSource(
            _decode(session, request.inputs, f"{field}inputs"),
            _decode(session, request.targets, f"{field}targets"),
            field,
        )
    if request.inputs or request.targets:
        raise invalid(f"{field}data", "is given, and so are inputs or targets; give one of the two")
    return open_source(session, request.data, f"{field}data")


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


def _decode(session: Session, values: Sequence[values_pb2.Value], field: str) -> list[torch.Tensor]:
    """Returns tensors with samples along their first dimension."""
    tensors = []
    for index, value in enumerate(values):
        path = f"{field}[{index}]"
        tensor = session.decode(value, path)
        if not isinstance(tensor, torch.Tensor) or not tensor.dim():
            raise invalid(path, "is not a tensor with samples along its first dimension")
        tensors.append(tensor)
    return tensors


def _select(tensor: torch.Tensor, samples: Samples) -> torch.Tensor:
    if isinstance(samples, slice):
        return tensor[samples].clone(memory_format=torch.contiguous_format)
    return tensor.index_select(0, samples.to(tensor.device))


def _num_samples(
    inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], prefix: str
) -> int:
    if not inputs:
        raise invalid(f"{prefix}inputs", "is empty; give the tensors to train on")
    num_samples = len(inputs[0])
    if not num_samples:
        raise invalid(f"{prefix}inputs[0]", "holds no samples")
    for field, tensors in (("inputs", inputs), ("targets", targets)):
        for index, tensor in enumerate(tensors):
            if len(tensor) != num_samples:
                raise invalid(
                    f"{prefix}{field}[{index}]",
                    f"holds {len(tensor)} samples, but {prefix}inputs[0] holds {num_samples}",
                )
    return num_samples
