"""Columns of samples, and how they lie in a safetensors file.

The format: eight bytes with the length of the header, the header in JSON, then the tensors' bytes
without gaps; see https://github.com/huggingface/safetensors#format.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from gradwire.v1.dtypes import BY_NAME, SAFETENSORS_NAMES
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.limits import Limits

MAX_NAME_LENGTH = 128
MAX_DIMENSIONS = 32
MAX_HEADER_BYTES = 16 * 1024 * 1024

_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"

_DTYPE_OF_SAFETENSORS_NAME = {name: dtype for dtype, name in SAFETENSORS_NAMES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One tensor for each sample.

    Attributes:
        name: Its name.
        dtype: torch's name of the element type, without ``torch.``.
        shape: The size of each dimension of one sample.

    Raises:
        GradwireError: A part of it can't be; INVALID_REQUEST.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        name = self.name
        if not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()) or name == _METADATA:
            raise invalid(
                "columns.name",
                f"{name[:MAX_NAME_LENGTH]!r} is not 1 to {MAX_NAME_LENGTH} printable characters",
            )
        if self.dtype not in SAFETENSORS_NAMES:
            raise invalid(
                "columns.dtype",
                f"column {name!r} is of type {self.dtype}; datasets have "
                + ", ".join(SAFETENSORS_NAMES),
            )
        if len(self.shape) > MAX_DIMENSIONS or any(not 0 < size < 2**48 for size in self.shape):
            raise invalid(
                "columns.shape",
                f"samples of column {name!r} have shape {list(self.shape)[:MAX_DIMENSIONS]}; "
                f"sizes must be positive, and at most {MAX_DIMENSIONS} of them",
            )

    @property
    def sample_bytes(self) -> int:
        """How many bytes one sample has."""
        return BY_NAME[self.dtype].itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The columns of a dataset.

    Attributes:
        columns: The columns, in order.
        num_samples: How many samples each has.

    Raises:
        GradwireError: There are no columns or no samples, or names come twice; INVALID_REQUEST.
    """

    columns: tuple[Column, ...]
    num_samples: int

    def __post_init__(self) -> None:
        if not self.columns:
            raise invalid("columns", "are none; a dataset has at least one column")
        if self.num_samples < 1:
            raise invalid(
                "num_samples", f"is {self.num_samples}; a dataset holds at least 1 sample"
            )
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise invalid("columns", f"two have the name {twice!r}")

    @property
    def data_bytes(self) -> int:
        """How many bytes the data has."""
        return self.num_samples * sum(column.sample_bytes for column in self.columns)

    def check(self, limits: Limits) -> None:
        """Checks the size against the limits.

        Raises:
            GradwireError: LIMIT_EXCEEDED.
        """
        if len(self.columns) > limits.max_dataset_columns:
            raise over_limit(
                f"the dataset has {len(self.columns)} columns",
                "max_dataset_columns",
                limits.max_dataset_columns,
            )
        if self.data_bytes > limits.max_dataset_bytes:
            raise over_limit(
                f"the dataset has {self.data_bytes} bytes",
                "max_dataset_bytes",
                limits.max_dataset_bytes,
            )

    def header(self) -> bytes:
        """Returns what comes before the data in a safetensors file."""
        entries: dict[str, Any] = {}
        begin = 0
        for column in self.columns:
            end = begin + self.num_samples * column.sample_bytes
            entries[column.name] = {
                "dtype": SAFETENSORS_NAMES[column.dtype],
                "shape": [self.num_samples, *column.shape],
                "data_offsets": [begin, end],
            }
            begin = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return _LENGTH.pack(len(text)) + text

    def to_json(self) -> dict[str, Any]:
        """Returns the schema as JSON has it."""
        return {
            "columns": [
                {"name": column.name, "dtype": column.dtype, "shape": list(column.shape)}
                for column in self.columns
            ],
            "num_samples": self.num_samples,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Returns the schema that `to_json` made."""
        columns = tuple(
            Column(name=each["name"], dtype=each["dtype"], shape=tuple(each["shape"]))
            for each in data["columns"]
        )
        return cls(columns=columns, num_samples=data["num_samples"])


def over_limit(what: str, limit: str, value: int) -> GradwireError:
    """Returns the error for a dataset that is too large."""
    return GradwireError(
        Reason.LIMIT_EXCEEDED,
        f"{what}; {limit} allows {value}. Delete datasets or split this one, or have the server's "
        "limit raised.",
        metadata={"limit": limit, "value": str(value)},
    )


def read_header(file: BinaryIO, num_bytes: int) -> tuple[Schema, dict[str, int]]:
    """Returns the columns of a safetensors file, and where the data of each begins in it.

    Args:
        file: The file, at its beginning.
        num_bytes: How many bytes it has.

    Raises:
        ValueError: It is no safetensors file of columns of equally many samples.
        GradwireError: Its columns can't be those of a dataset.
    """
    start = file.read(_LENGTH.size)
    length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
    if not 0 < length <= min(MAX_HEADER_BYTES, num_bytes - _LENGTH.size):
        raise ValueError("it does not begin with the length of a safetensors header")
    try:
        entries = json.loads(file.read(length))
    except ValueError:
        raise ValueError("its safetensors header is not JSON") from None
    if not isinstance(entries, dict):
        raise ValueError("its safetensors header is not a JSON object")
    entries.pop(_METADATA, None)
    first = _LENGTH.size + length
    columns, offsets, lengths = [], {}, set()
    for name, entry in entries.items():
        dtype, shape, begin, end = _entry(name, entry)
        if not shape:
            raise ValueError(f"tensor {name!r} is a single number, not a column of samples")
        column = Column(name=name, dtype=dtype, shape=tuple(shape[1:]))
        if end - begin != shape[0] * column.sample_bytes or not 0 <= begin <= end <= (
            num_bytes - first
        ):
            raise ValueError(f"tensor {name!r} does not lie where its header says")
        columns.append(column)
        offsets[name] = first + begin
        lengths.add(shape[0])
    _require_one_length(columns, entries, lengths)
    # The header's order is the writer's choice; that of the data is what a reader sees.
    columns.sort(key=lambda column: offsets[column.name])
    return Schema(columns=tuple(columns), num_samples=lengths.pop()), offsets


def _entry(name: str, entry: Any) -> tuple[str, list[int], int, int]:
    try:
        format_name, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"tensor {name!r} lacks a part of its description") from None
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"tensor {name!r} has sizes or offsets that are no numbers")
    dtype = _DTYPE_OF_SAFETENSORS_NAME.get(format_name)
    if dtype is None:
        raise ValueError(f"tensor {name!r} has the element type {format_name}")
    return dtype, shape, begin, end


def _require_one_length(
    columns: Sequence[Column], entries: Mapping[str, Any], lengths: set[int]
) -> None:
    if not columns:
        raise ValueError("it holds no tensors")
    if len(lengths) > 1:
        shown = ", ".join(f"{each.name}: {entries[each.name]['shape'][0]}" for each in columns[:8])
        raise ValueError(f"its tensors have different numbers of samples ({shown})")
