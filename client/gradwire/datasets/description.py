"""What is known of data on the server."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from gradwire.types import DTYPE_OF_DATA_TYPE, Size, dtype
from gradwire.v1 import datasets_pb2

PREFIX = "datasets/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of data: one tensor for each sample.

    Attributes:
        name: Its name.
        dtype: The element type.
        shape: The size of each dimension of one sample.
    """

    name: str
    dtype: dtype
    shape: Size

    @classmethod
    def of(cls, message: datasets_pb2.Column) -> Self:
        """Returns the column that a message describes."""
        return cls(
            name=message.name, dtype=DTYPE_OF_DATA_TYPE[message.dtype], shape=Size(message.shape)
        )


@dataclass(frozen=True, kw_only=True)
class ServerData:
    """Data that a run on the server can read by itself.

    Attributes:
        columns: Its columns.
        num_samples: How many samples each has.
        inputs: The columns that a model is called with; if this and `targets` are empty, all but
            the last.
        targets: The columns that a loss takes beside the outputs; if both are empty, the last.
    """

    columns: tuple[Column, ...]
    num_samples: int
    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def select(self, inputs: str | Sequence[str] = (), targets: str | Sequence[str] = ()) -> Self:
        """Returns the same data with a choice of columns to train on.

        Args:
            inputs: What the model is called with, one column for each positional argument; all
                columns that are no targets if empty.
            targets: What the loss takes beside the outputs.

        Raises:
            ValueError: There is no such column.
        """
        chosen = replace(self, inputs=_names(inputs), targets=_names(targets))
        known = [column.name for column in self.columns]
        for name in (*chosen.inputs, *chosen.targets):
            if name not in known:
                raise ValueError(f"there is no column {name!r}; there are {', '.join(known)}")
        return chosen

    def message(self) -> datasets_pb2.DataSource:
        """Returns what a run is told."""
        return datasets_pb2.DataSource(inputs=self.inputs, targets=self.targets)

    def __len__(self) -> int:
        return self.num_samples

    def _title(self) -> str:
        return f"{self.num_samples} samples"

    def __repr__(self) -> str:
        lines = [
            f"  ({column.name}): {column.dtype}, {list(column.shape)}" for column in self.columns
        ]
        return "\n".join([f"{type(self).__name__}({self._title()},", *lines, ")"])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(column.name)}</td><td>{column.dtype}</td>"
            f"<td>{list(column.shape)}</td></tr>"
            for column in self.columns
        )
        return (
            f"<table><caption>{html.escape(self._title())}</caption>"
            f"<thead><tr><th>column</th><th>dtype</th><th>sample shape</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredDataset(ServerData):
    """A dataset in the server's storage.

    Attributes:
        name: Its name.
        num_bytes: How many bytes its data has.
        sha256: The hash of its data, in hexadecimal digits.
        create_time: When its upload was finished.
    """

    name: str
    num_bytes: int
    sha256: str
    create_time: datetime

    @classmethod
    def of(cls, message: datasets_pb2.Dataset) -> Self:
        """Returns the dataset that a message describes."""
        return cls(
            name=message.name.removeprefix(PREFIX),
            columns=tuple(map(Column.of, message.columns)),
            num_samples=message.num_samples,
            num_bytes=message.size_bytes,
            sha256=message.content_sha256.hex(),
            create_time=message.create_time.ToDatetime(UTC),
        )

    def message(self) -> datasets_pb2.DataSource:
        """Returns what a run is told."""
        message = super().message()
        message.dataset = PREFIX + self.name
        return message

    def _title(self) -> str:
        return f"{self.name!r}, {self.num_samples} samples, {self.num_bytes:,} bytes"


@dataclass(frozen=True, kw_only=True, repr=False)
class FileData(ServerData):
    """Data in files that the server can read.

    Attributes:
        files: The files, as the server is told of them.
    """

    files: datasets_pb2.Files

    def message(self) -> datasets_pb2.DataSource:
        """Returns what a run is told."""
        message = super().message()
        message.files.CopyFrom(self.files)
        return message

    def _title(self) -> str:
        uris = ", ".join(file.uri for file in self.files.files)
        return f"{uris}, {self.num_samples} samples"


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
