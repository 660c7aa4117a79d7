"""Data in files that the server can reach, opened as a table."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gradwire.v1 import datasets_pb2
from gradwire_server.datasets.columns import over_limit
from gradwire_server.datasets.importing import Selection, import_file
from gradwire_server.datasets.locations import Location, locate
from gradwire_server.datasets.tables import MappedFile, Table
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage

_FORMATS = {
    datasets_pb2.FILE_FORMAT_SAFETENSORS: "safetensors",
    datasets_pb2.FILE_FORMAT_NPZ: "npz",
    datasets_pb2.FILE_FORMAT_CSV: "csv",
    datasets_pb2.FILE_FORMAT_PARQUET: "parquet",
    datasets_pb2.FILE_FORMAT_IDX: "idx",
    datasets_pb2.FILE_FORMAT_CIFAR10: "cifar10",
}

ENDINGS = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    "-ubyte": "idx",
    "-ubyte.gz": "idx",
    ".idx": "idx",
    ".idx.gz": "idx",
    ".bin": "cifar10",
}
"""Formats by how a file's name ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    location: Location
    format_name: str
    selections: tuple[Selection, ...]

    @property
    def key(self) -> str:
        """Says what the columns hold: equal keys, equal data."""
        return f"{self.location.version} {self.format_name} {self.selections}"


def open_files(storage: Storage, limits: Limits, message: datasets_pb2.Files, field: str) -> Table:
    """Returns the data of files as a table; prepares them if that was not done before.

    Args:
        storage: What may be read, and where prepared files are kept.
        limits: The limits in force.
        message: The files.
        field: The request field they came in, for errors.

    Raises:
        GradwireError: A file is not allowed, not there, malformed or too large.
    """
    if not message.files:
        raise invalid(f"{field}.files", "is empty; name at least one file")
    files = [
        _parse(each, storage, f"{field}.files[{index}]") for index, each in enumerate(message.files)
    ]
    mapped = [_open(file, storage, limits) for file in files]
    keys = hashlib.sha256("\n".join(file.key for file in files).encode()).hexdigest()
    try:
        table = Table(mapped, fingerprint=keys)
    except ValueError as error:
        raise invalid(field, str(error)) from None
    table.schema.check(limits)
    return table


def format_of(name: str) -> str | None:
    """Returns the format that the end of a file's name stands for; None if it is none."""
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)


def _parse(message: datasets_pb2.File, storage: Storage, path: str) -> _File:
    if message.format:
        format_name = _FORMATS.get(message.format)
        if format_name is None:
            raise invalid(f"{path}.format", f"{message.format} is not a FileFormat")
    else:
        format_name = format_of(message.uri)
        if format_name is None:
            raise invalid(
                f"{path}.format",
                f'"{message.uri[:200]}" does not end as a known format does '
                f"({', '.join(ENDINGS)}); say which it is",
            )
    selections = []
    for index, each in enumerate(message.selections):
        if not each.columns:
            raise invalid(f"{path}.selections[{index}].columns", "is empty")
        selections.append(Selection(name=each.name, columns=tuple(each.columns)))
    return _File(
        location=locate(message.uri, storage.config.allowed_data_prefixes, f"{path}.uri"),
        format_name=format_name,
        selections=tuple(selections),
    )


def _open(file: _File, storage: Storage, limits: Limits) -> MappedFile:
    location = file.location
    if location.num_bytes > limits.max_dataset_bytes:
        raise over_limit(
            f'file "{location.uri}" has {location.num_bytes} bytes',
            "max_dataset_bytes",
            limits.max_dataset_bytes,
        )
    try:
        return MappedFile(_prepared(file, storage, limits))
    except ValueError as error:
        raise GradwireError(Reason.INVALID_REQUEST, f'file "{location.uri}": {error}') from error


def _prepared(file: _File, storage: Storage, limits: Limits) -> Path:
    """Returns a local safetensors file with the file's columns."""
    if file.format_name == "safetensors" and not file.selections:
        return _local(file.location, storage)

    def convert(target: Path) -> None:
        try:
            import_file(
                _local(file.location, storage),
                target,
                format_name=file.format_name,
                selections=file.selections,
                limits=limits,
            )
        except GradwireError as error:
            raise GradwireError(
                error.reason,
                f'file "{file.location.uri}": {error.message}',
                metadata=error.metadata,
            ) from error

    return storage.cached(file.key, convert)


def _local(location: Location, storage: Storage) -> Path:
    if location.path is not None:
        return location.path
    assert location.download is not None
    return storage.cached(location.version, location.download)
