"""Importing: a file of another format becomes a safetensors file, in a process of its own.

Parsers of foreign bytes are where servers crash and hang; here neither the front nor a worker
does. Memory stays bounded: columns are collected in files.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Container, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gradwire.v1.dtypes import BY_NAME
from gradwire_server.datasets.columns import Column, Schema, over_limit
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.log import configure_logging
from gradwire_server.storage.failures import storage_failures

_COMMAND = (sys.executable, "-m", "gradwire_server.datasets.importing")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A column made of others of a file.

    Attributes:
        name: Its name.
        columns: Those that it is made of.
    """

    name: str
    columns: tuple[str, ...]


def import_file(
    path: Path, target: Path, *, format_name: str, selections: Sequence[Selection], limits: Limits
) -> None:
    """Writes a safetensors file with the columns of another file.

    Args:
        path: The file.
        target: What to write; its folder is used for parts of it.
        format_name: One of `formats.READERS`.
        selections: Which columns to take; all if empty.
        limits: The limits in force.

    Raises:
        GradwireError: The file is malformed (INVALID_REQUEST), or too large.
    """
    job = {
        "path": str(path),
        "target": str(target),
        "format_name": format_name,
        "selections": [asdict(each) for each in selections],
        "limits": asdict(limits),
    }
    done = subprocess.run(
        [*_COMMAND, json.dumps(job)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    if not done.returncode:
        return
    try:
        failure = json.loads(done.stdout)
    except ValueError:
        trace = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"importing ended with status {done.returncode}: {trace}") from None
    raise GradwireError(Reason(failure["reason"]), failure["message"], metadata=failure["metadata"])


class _Collected:
    """A column as far as it was read, its samples in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.num_samples = 0
        self.dtype = ""
        self.shape: tuple[int, ...] = ()

    def add(self, name: str, array: Array) -> int:
        """Appends samples; returns how many bytes they have."""
        dtype, shape = array.dtype.name, array.shape[1:]
        if not self.num_samples:
            self.dtype, self.shape = dtype, shape
        elif (dtype, shape) != (self.dtype, self.shape):
            raise ValueError(
                f"column {name!r} begins with {self.dtype} samples of shape {list(self.shape)}, "
                f"then come {dtype} samples of shape {list(shape)}"
            )
        if dtype not in BY_NAME:
            raise ValueError(f"column {name!r} holds {dtype}, which torch has not")
        self.file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        self.num_samples += len(array)
        return array.nbytes


def _convert(
    path: Path, target: Path, format_name: str, selections: Sequence[Selection], limits: Limits
) -> None:
    try:
        _write(path, target, format_name, selections, limits)
    except ValueError as error:
        raise GradwireError(Reason.INVALID_REQUEST, str(error)) from error


def _write(
    path: Path, target: Path, format_name: str, selections: Sequence[Selection], limits: Limits
) -> None:
    """Reads the file and writes another; see `import_file`."""
    # The readers load pyarrow, which neither front nor worker needs.
    from gradwire_server.datasets.formats import READERS  # noqa: PLC0415

    with ExitStack() as stack:
        collected: dict[str, _Collected] = {}
        seen: dict[str, None] = {}
        num_bytes = 0
        for block in READERS[format_name](path):
            seen |= dict.fromkeys(block)
            for name, array in (_select(block, selections) if selections else block).items():
                if name not in collected:
                    file = stack.enter_context(tempfile.TemporaryFile(dir=target.parent))
                    collected[name] = _Collected(file)
                num_bytes += collected[name].add(name, array)
            if num_bytes > limits.max_dataset_bytes:
                raise over_limit(
                    f"it has more than {limits.max_dataset_bytes} bytes",
                    "max_dataset_bytes",
                    limits.max_dataset_bytes,
                )
        _require_all(selections, seen, collected)
        lengths = {name: column.num_samples for name, column in collected.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise ValueError(f"its columns have different numbers of samples ({shown})")
        if not any(lengths.values()):
            raise ValueError("it holds no samples")
        schema = Schema(
            columns=tuple(
                Column(name=name, dtype=column.dtype, shape=column.shape)
                for name, column in collected.items()
            ),
            num_samples=next(iter(lengths.values())),
        )
        schema.check(limits)
        with target.open("wb") as output:
            output.write(schema.header())
            for column in collected.values():
                column.file.seek(0)
                shutil.copyfileobj(column.file, output, 1024 * 1024)


def _select(block: dict[str, Array], selections: Sequence[Selection]) -> dict[str, Array]:
    """Returns the selected columns that a block has the parts of."""
    return {
        selection.name: _join(block, selection)
        for selection in selections
        if all(name in block for name in selection.columns)
    }


def _require_all(
    selections: Sequence[Selection], seen: Iterable[str], collected: Container[str]
) -> None:
    names = list(seen)
    for selection in selections:
        for name in selection.columns:
            if name not in names:
                raise ValueError(f"it has no column {name!r}, but {', '.join(map(repr, names))}")
        if selection.name not in collected:
            raise ValueError(
                f"columns {', '.join(map(repr, selection.columns))} can't be joined: those of this "
                "format are read one after the other; only CSV and Parquet columns can"
            )


def _join(block: dict[str, Array], selection: Selection) -> Array:
    arrays = [block[name] for name in selection.columns]
    if len(arrays) == 1:
        return arrays[0]
    for name, array in zip(selection.columns, arrays, strict=True):
        if array.ndim > 1:
            raise ValueError(
                f"column {name!r} has samples of shape {list(array.shape[1:])}; only single "
                f"numbers can be joined, as {selection.name!r} asks"
            )
    joined = np.stack(arrays, axis=1)
    if len({array.dtype for array in arrays}) > 1:
        joined = joined.astype(np.float32)
    return joined


def main() -> int:
    """Does the job on the command line; returns the exit status."""
    job = json.loads(sys.argv[1])
    selections = [
        Selection(name=each["name"], columns=tuple(each["columns"])) for each in job["selections"]
    ]
    configure_logging("text", "warning")
    path, target = Path(job["path"]), Path(job["target"])
    limits = Limits(**job["limits"])
    try:
        with storage_failures("import", path.name):
            _convert(path, target, job["format_name"], selections, limits)
    except GradwireError as error:
        failure = {
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
        }
        sys.stdout.write(json.dumps(failure))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
