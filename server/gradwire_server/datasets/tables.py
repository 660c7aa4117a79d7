"""Tables: columns of samples in files that are mapped into memory, never loaded whole."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradwire_server.datasets.columns import Column, Schema, read_header

RESIDENT_BYTES = 64 * 1024 * 1024
"""How much of a file stays mapped in; more is left to the page cache of the system alone."""

FAULT_BYTES = 64 * 1024
"""How much the system maps in when one page of a file is touched."""

Rows = np.ndarray[Any, np.dtype[np.uint8]]
"""Bytes of samples, one row each."""


class MappedFile:
    """A safetensors file in memory, read as it is used.

    Args:
        path: The file. It may be removed while it is mapped, but must not be changed.

    Attributes:
        schema: Its columns.

    Raises:
        ValueError: It is no safetensors file of columns.
        OSError: It can't be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.schema, offsets = read_header(file, path.stat().st_size)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._rows: dict[str, Rows] = {}
        self._may_stay = len(self._map) <= RESIDENT_BYTES
        self._touched_bytes = 0
        for column in self.schema.columns:
            rows: Rows = np.frombuffer(
                self._map,
                np.uint8,
                self.schema.num_samples * column.sample_bytes,
                offsets[column.name],
            )
            self._rows[column.name] = rows.reshape(self.schema.num_samples, column.sample_bytes)

    def take(self, name: str, samples: "np.ndarray[Any, np.dtype[np.int64]] | slice") -> Rows:
        """Returns a copy of some samples of a column, in the order given."""
        rows = self._rows[name]
        if isinstance(samples, slice):
            taken = rows[samples].copy()
            self._touched_bytes += taken.nbytes
        else:
            taken = rows.take(samples, axis=0)
            self._touched_bytes += len(taken) * max(rows.shape[1], FAULT_BYTES)
        if self._touched_bytes > RESIDENT_BYTES and not self._may_stay:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched_bytes = 0
        return taken


@dataclass(frozen=True, slots=True)
class _Part:
    """Samples of one file, which follow those of the parts before."""

    file: MappedFile
    name: str
    begin: int


class Table:
    """Columns of equally many samples, each in one or more files.

    Args:
        files: Each a mapped file and the names that its columns have in the table.
        fingerprint: Says which data this is: equal fingerprints, equal data.

    Attributes:
        schema: The columns. One that several files have is that of each, one after the other.
        fingerprint: As given.

    Raises:
        ValueError: Parts of a column have different types or shapes, or columns have different
            numbers of samples.
    """

    def __init__(self, files: Sequence[MappedFile], *, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._parts: dict[str, list[_Part]] = {}
        columns: dict[str, Column] = {}
        lengths: dict[str, int] = {}
        for file in files:
            for column in file.schema.columns:
                known = columns.setdefault(column.name, column)
                if known != column:
                    raise ValueError(
                        f"column {column.name!r} has {known.dtype} samples of shape "
                        f"{list(known.shape)} in one file and {column.dtype} samples of shape "
                        f"{list(column.shape)} in another"
                    )
                begin = lengths.get(column.name, 0)
                self._parts.setdefault(column.name, []).append(_Part(file, column.name, begin))
                lengths[column.name] = begin + file.schema.num_samples
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise ValueError(f"the columns have different numbers of samples ({shown})")
        self.schema = Schema(
            columns=tuple(columns.values()), num_samples=next(iter(lengths.values()), 0)
        )

    def take(self, name: str, samples: "np.ndarray[Any, np.dtype[np.int64]] | slice") -> Rows:
        """Returns a copy of some samples of a column, in the order given.

        Args:
            name: The column.
            samples: Their numbers, from 0, or a range of them.
        """
        parts = self._parts[name]
        if len(parts) == 1:
            return parts[0].file.take(name, samples)
        numbers: np.ndarray[Any, np.dtype[np.int64]] = (
            np.arange(*samples.indices(self.schema.num_samples))
            if isinstance(samples, slice)
            else samples
        )
        owners = np.searchsorted([part.begin for part in parts], numbers, side="right") - 1
        size = next(c.sample_bytes for c in self.schema.columns if c.name == name)
        taken: Rows = np.empty((len(numbers), size), np.uint8)
        for owner in np.unique(owners):
            chosen = owners == owner
            part = parts[owner]
            taken[chosen] = part.file.take(part.name, numbers[chosen] - part.begin)
        return taken
