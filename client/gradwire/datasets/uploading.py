"""Uploading: in pieces, going on where it broke, and nothing that is there already."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from gradwire.connection import current_session
from gradwire.datasets.description import PREFIX, StoredDataset
from gradwire.datasets.gathering import Columns, gathered
from gradwire.errors import GradwireError, SessionLostError
from gradwire.recorder.arrays import dtype_of_array
from gradwire.session import Session
from gradwire.transport.channel import retry_delays
from gradwire.v1 import datasets_pb2, datasets_pb2_grpc

PIECE_BYTES = 1024 * 1024

_HEADER_BYTES = 256
"""More than what a message has beside the data."""

_RESUMABLE = {"UNAVAILABLE", "SHUTTING_DOWN", "NOT_READY", "OUT_OF_ORDER"}
"""Reasons for which an upload asks the server where it is, and goes on from there."""


def upload(
    name: str,
    data: Any,
    *,
    columns: Sequence[str] | None = None,
    allow_nonfinite: bool = False,
    progress: bool = True,
) -> StoredDataset:
    """Uploads data to the server's storage, where runs can read it from then on.

    The data is hashed first: if the server has it already, under whatever name, nothing is sent.
    If the connection breaks, the upload goes on from where the server got to; so does a call that
    is repeated within a day after this one failed or was interrupted.

    Args:
        name: The dataset's name: letters, digits, ``.``, ``_`` and ``-``.
        data: Arrays or tensors by column name, a tuple of them, a dataset (also an iterable one,
            which is written to the local disk first), or a loader, whose batches are joined.
        columns: The names of the columns, for data that has none of its own; by default ``inputs``
            and ``targets`` if there are two.
        allow_nonfinite: Whether floating point columns may hold NaN or infinity.
        progress: Whether to show a progress bar, in a terminal or notebook.

    Raises:
        ValueError: The data is empty, not finite, or its columns differ in length, or the name is
            that of other data.
        TypeError: It can't be made into columns of numbers.
        LimitError: It is larger than a limit of the server.
        StorageError: The server's storage is full or refuses.
    """
    session = current_session()
    with gathered(data, columns) as gathered_columns, ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(
                total=sum(array.nbytes for array in gathered_columns.values()),
                disable=None if progress else True,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                dynamic_ncols=True,
            )
        )
        request = datasets_pb2.CreateDatasetRequest(
            dataset_id=name,
            dataset=_describe(gathered_columns, bar, allow_nonfinite=allow_nonfinite),
        )
        bar.set_description(f"uploading {name}")
        return StoredDataset.of(_send(session, request, gathered_columns, bar))


def _describe(columns: Columns, bar: "tqdm[Any]", *, allow_nonfinite: bool) -> datasets_pb2.Dataset:
    """Returns what is announced of data, its hash included."""
    bar.set_description("hashing")
    digest = hashlib.sha256()
    for name, array in columns.items():
        first = 0
        for block in _blocks(array):
            if not allow_nonfinite:
                _require_finite(name, block, first)
            digest.update(_bytes(block))
            bar.update(block.nbytes)
            first += len(block)
    return datasets_pb2.Dataset(
        columns=[
            datasets_pb2.Column(
                name=name,
                dtype=dtype_of_array(array).data_type,  # type: ignore[arg-type]
                shape=array.shape[1:],
            )
            for name, array in columns.items()
        ],
        num_samples=len(next(iter(columns.values()))),
        content_sha256=digest.digest(),
    )


def _send(
    session: Session,
    request: datasets_pb2.CreateDatasetRequest,
    columns: Columns,
    bar: "tqdm[Any]",
) -> datasets_pb2.Dataset:
    """Announces and sends data until the server has all of it."""
    stub = datasets_pb2_grpc.DatasetServiceStub(session.channel)
    delays: Iterator[float] | None = None
    best = -1
    while True:
        dataset: datasets_pb2.Dataset = session.call(stub.CreateDataset, request).dataset
        if dataset.stored_bytes > best:
            best, delays = dataset.stored_bytes, None
        bar.reset()
        bar.update(dataset.stored_bytes)
        if dataset.state == datasets_pb2.DATASET_STATE_READY:
            return dataset
        size = min(PIECE_BYTES, session.max_message_bytes - _HEADER_BYTES)
        pieces = _pieces(PREFIX + request.dataset_id, columns, dataset.stored_bytes, size, bar)
        try:
            dataset = session.send(stub.UploadDataset, pieces).dataset
        except SessionLostError:
            raise
        except GradwireError as error:
            if error.reason not in _RESUMABLE:
                raise
            delays = delays or retry_delays(time.monotonic() + session.timeout_seconds)
            delay = next(delays, None)
            if delay is None:
                raise
            time.sleep(delay)
        else:
            if dataset.state == datasets_pb2.DATASET_STATE_READY:
                return dataset


def _pieces(
    name: str, columns: Columns, offset: int, size: int, bar: "tqdm[Any]"
) -> Iterator[datasets_pb2.UploadDatasetRequest]:
    """Yields messages with the data from an offset on."""
    first: dict[str, Any] = {"name": name, "offset": offset}
    skip = offset
    for array in columns.values():
        if skip >= array.nbytes:
            skip -= array.nbytes
            continue
        sample_bytes = array.nbytes // len(array)
        for block in _blocks(array[skip // sample_bytes :]):
            data = _bytes(block)[skip % sample_bytes :]
            skip = 0
            for begin in range(0, len(data), size):
                piece = data[begin : begin + size]
                yield datasets_pb2.UploadDatasetRequest(data=bytes(piece), **first)
                bar.update(len(piece))
                first = {}


def _blocks(array: "np.ndarray[Any, Any]") -> Iterator["np.ndarray[Any, Any]"]:
    """Yields an array in parts of about a piece each, or one sample if that is larger."""
    rows = max(1, PIECE_BYTES // max(1, array.nbytes // len(array)))
    for begin in range(0, len(array), rows):
        yield np.ascontiguousarray(array[begin : begin + rows])


def _bytes(block: "np.ndarray[Any, Any]") -> memoryview:
    return block.reshape(-1).view(np.uint8).data


def _require_finite(name: str, block: "np.ndarray[Any, Any]", first: int) -> None:
    if dtype_of_array(block).is_floating_point or block.dtype.kind == "c":
        finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if not finite.all():
            number = first + int(np.flatnonzero(~finite)[0])
            raise ValueError(
                f"column {name!r} holds NaN or infinity, first in sample {number}; clean the data, "
                "or upload it with allow_nonfinite=True"
            )
