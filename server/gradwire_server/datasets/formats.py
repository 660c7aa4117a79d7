"""File formats: readers that yield blocks of samples, column by name.

A block is a dict of little-endian arrays with the same number of samples each, small enough to be
held in memory. Nothing here unpickles or evaluates what a file says. Blocks of the same file may
hold different columns: those of an .npz file come one after the other.
"""

import gzip
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gradwire_server.datasets.tables import MappedFile

BLOCK_BYTES = 16 * 1024 * 1024

Array = np.ndarray[Any, Any]
Block = dict[str, Array]
Reader = Callable[[Path], Iterator[Block]]

CIFAR10_SHAPE = (3, 32, 32)
_GZIP_MAGIC = b"\x1f\x8b"

_IDX_DTYPES: Mapping[int, str] = {
    0x08: "u1",
    0x09: "i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}
"""Element types by the third byte of an IDX file; see http://yann.lecun.com/exdb/mnist/."""


class FormatError(ValueError):
    """A file is not what its format says; the message tells why."""


def read_safetensors(path: Path) -> Iterator[Block]:
    """Yields each tensor as a column; see `columns.read_header`."""
    import ml_dtypes  # noqa: F401, PLC0415  # numpy knows bfloat16 and float8 from then on

    file = MappedFile(path)
    for column in file.schema.columns:
        rows = _rows_per_block(column.sample_bytes)
        for begin in range(0, file.schema.num_samples, rows):
            taken = file.take(column.name, slice(begin, begin + rows))
            yield {column.name: taken.view(np.dtype(column.dtype)).reshape(-1, *column.shape)}


def read_npz(path: Path) -> Iterator[Block]:
    """Yields each array as a column. The format: numpy.lib.format, in a zip archive."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise FormatError("it is no .npz file, which is a zip archive") from None
    with archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            try:
                with archive.open(member) as file:
                    for array in _npy_blocks(file, name):
                        yield {name: array}
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise FormatError(f"array {name!r} is damaged: {error}") from None


def _npy_blocks(file: IO[bytes], name: str) -> Iterator[Array]:
    try:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = reader(file)
    except (ValueError, KeyError):
        raise FormatError(f"{name!r} is no array in numpy's format") from None
    if dtype.hasobject or dtype.kind not in "biufc":
        raise FormatError(f"array {name!r} holds {dtype}, not numbers")
    if not shape:
        raise FormatError(f"array {name!r} is a single number, not a column of samples")
    if fortran_order and len(shape) > 1:
        raise FormatError(
            f"array {name!r} is stored in Fortran's order; save numpy.ascontiguousarray of it"
        )
    yield from _records(file, dtype, shape[1:], shape[0], f"array {name!r}")


def read_csv(path: Path) -> Iterator[Block]:
    """Yields numbers by column: int64 if all of a column are integers, else float32."""
    try:
        types = _csv_types(path)
        begin = 0
        with _csv(path, types) as batches:
            for batch in batches:
                yield _numbers(batch, begin, floats=np.float32)
                begin += batch.num_rows
    except pa.ArrowInvalid as error:
        raise FormatError(f"it is no CSV file of numbers: {error}") from None


@contextmanager
def _csv(path: Path, types: Mapping[str, Any], only: str | None = None) -> Iterator[Any]:
    """Yields a reader of a file, whose columns are of the types given or as they look."""
    with _opened(path) as file:
        reader = pyarrow.csv.open_csv(
            file,
            # A thread of pyarrow's that is left over at the end would abort the process.
            pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                strings_can_be_null=True,
                include_columns=None if only is None else [only],
            ),
        )
        with reader:
            yield reader


def _csv_types(path: Path) -> dict[str, Any]:
    """Returns the type of each column that looks in the first block as if it were of integers.

    pyarrow takes it for that from there on, but a number with a point may come late.
    """
    with _csv(path, {}) as batches:
        names = [field.name for field in batches.schema if pa.types.is_integer(field.type)]
    return {name: pa.int64() if _all_integers(path, name) else pa.float64() for name in names}


def _all_integers(path: Path, name: str) -> bool:
    try:
        with _csv(path, {name: pa.int64()}, only=name) as batches:
            for _ in batches:
                pass
    except pa.ArrowInvalid:
        return False
    return True


def read_parquet(path: Path) -> Iterator[Block]:
    """Yields columns of numbers, booleans, and lists of those of one length."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = _rows_per_block(file.metadata.num_columns * 8)
            begin = 0
            for batch in file.iter_batches(batch_size=min(rows, 65536)):
                yield _numbers(batch, begin, floats=None)
                begin += batch.num_rows
    except pa.ArrowException as error:
        raise FormatError(f"it is no Parquet file that can be read: {error}") from None


def _numbers(batch: Any, begin: int, *, floats: Any) -> Block:
    block: Block = {}
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if array.null_count:
            missing = begin + int(np.flatnonzero(array.is_null())[0])
            raise FormatError(f"column {name!r} has no value in row {missing}, counted from 0")
        block[name] = _array_of_arrow(array, name)
        if floats is not None and block[name].dtype.kind == "f":
            block[name] = block[name].astype(floats)
    return block


def _array_of_arrow(array: Any, name: str) -> Array:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _array_of_arrow(array.dictionary_decode(), name)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = array.flatten()
        if inner.null_count:
            raise FormatError(f"column {name!r} has lists with missing values")
        length = len(inner) // len(array) if len(array) else 0
        lengths = array.value_lengths() if not pa.types.is_fixed_size_list(kind) else None
        if lengths is not None and not np.all(lengths.to_numpy(zero_copy_only=False) == length):
            raise FormatError(f"column {name!r} has lists of different lengths")
        values = _array_of_arrow(inner, name)
        return values.reshape(len(array), length, *values.shape[1:])
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise FormatError(f"column {name!r} holds {kind}, not numbers; select the others")
    found: Array = array.to_numpy(zero_copy_only=False)
    return found


def read_idx(path: Path) -> Iterator[Block]:
    """Yields the array of an IDX file, gzipped or not.

    One of one dimension is the column ``labels``, as int64, which losses want; else ``images``.
    """
    with _opened(path) as file:
        magic = _read(file, 4)
        if magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES or not magic[3]:
            raise FormatError(f"it does not begin as an IDX file does, but with {magic.hex()}")
        shape = np.frombuffer(_read(file, 4 * magic[3]), ">u4").astype(int).tolist()
        dtype = np.dtype(_IDX_DTYPES[magic[2]])
        name = "images" if len(shape) > 1 else "labels"
        for array in _records(file, dtype, tuple(shape[1:]), shape[0], name):
            is_labels = name == "labels" and array.dtype.kind in "iu"
            yield {name: array.astype(np.int64) if is_labels else array}
        if file.read(1):
            raise FormatError(f"it goes on after the {shape[0]} samples that it announces")


def read_cifar10(path: Path) -> Iterator[Block]:
    """Yields ``images``, uint8, and ``labels``, int64, of the binary version of CIFAR-10.

    Each record is a byte with the label and 3072 with the image, channel by channel; see
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    size = 1 + math.prod(CIFAR10_SHAPE)
    with _opened(path) as file:
        while data := file.read(size * _rows_per_block(size)):
            if len(data) % size:
                raise FormatError(f"its size is not a multiple of {size}, that of a record")
            records = np.frombuffer(data, np.uint8).reshape(-1, size)
            if records[:, 0].max() > 9:
                raise FormatError(f"it has a label {records[:, 0].max()}; those go from 0 to 9")
            yield {
                "images": records[:, 1:].reshape(-1, *CIFAR10_SHAPE),
                "labels": records[:, 0].astype(np.int64),
            }


READERS: Mapping[str, Reader] = {
    "safetensors": read_safetensors,
    "npz": read_npz,
    "csv": read_csv,
    "parquet": read_parquet,
    "idx": read_idx,
    "cifar10": read_cifar10,
}
"""The reader of each format."""


def _records(
    file: IO[bytes], dtype: "np.dtype[Any]", shape: tuple[int, ...], count: int, what: str
) -> Iterator[Array]:
    """Yields `count` samples that lie one after the other, in blocks."""
    size = dtype.itemsize * math.prod(shape)
    rows = _rows_per_block(size)
    little = dtype.newbyteorder("<")
    for begin in range(0, count, rows):
        number = min(rows, count - begin)
        data = _read(file, number * size, what)
        yield np.frombuffer(data, dtype).reshape(number, *shape).astype(little, copy=False)


def _read(file: IO[bytes], num_bytes: int, what: str = "its header") -> bytes:
    try:
        data = file.read(num_bytes)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise FormatError(f"{what} is damaged: {error}") from None
    if len(data) < num_bytes:
        raise FormatError(f"it ends in the middle of {what}")
    return data


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    return cast("IO[bytes]", gzip.open(path)) if compressed else path.open("rb")


def _rows_per_block(sample_bytes: int) -> int:
    return max(1, BLOCK_BYTES // max(sample_bytes, 1))
