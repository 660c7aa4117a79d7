"""What is to be uploaded as columns: arrays, or files on the local disk of what comes in pieces."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from gradwire.convert import array_of_local, is_local_tensor
from gradwire.recorder.arrays import dtype_of_array, numpy_dtype
from gradwire.tensors import Tensor
from gradwire.utils.data.dataset import gather

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]

SAMPLES_AT_ONCE = 256
"""How many samples of a dataset are stacked before they go to the disk."""


@contextmanager
def gathered(data: Any, names: Sequence[str] | None) -> Iterator[Columns]:
    """Yields data as columns of equally many samples, little-endian.

    Args:
        data: A dict of arrays by name; an array or a tuple of them; a dataset; a loader.
        names: The columns' names, for data that has none of its own.

    Raises:
        ValueError: There are no samples, or columns have different numbers of them.
        TypeError: It can't be made into columns of numbers.
    """
    with ExitStack() as stack:
        arrays = _arrays(data, names)
        if arrays is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gradwire-"))
            arrays = _spooled(data, names, Path(folder))
        columns = {name: _plain(name, array) for name, array in arrays.items()}
        lengths = {name: len(array) for name, array in columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise ValueError(f"the columns have different numbers of samples ({shown})")
        if not any(lengths.values()):
            raise ValueError("there is nothing to upload: the data has no samples")
        yield columns


def _arrays(data: Any, names: Sequence[str] | None) -> dict[str, Any] | None:
    """Returns the arrays of data that is held in arrays; None if it is not."""
    if isinstance(data, Mapping):
        return {str(name): _array(value) for name, value in data.items()}
    if _is_tensor_dataset(data):
        data = tuple(data.tensors)
    if _has_shape(data):
        data = (data,)
    if isinstance(data, tuple | list) and data and all(map(_has_shape, data)):
        return dict(zip(_names(len(data), names), map(_array, data), strict=True))
    return None


def _spooled(data: Any, names: Sequence[str] | None, folder: Path) -> dict[str, Any]:
    """Writes the samples of a dataset or loader to files; returns those, mapped into memory."""
    files: dict[str, IO[bytes]] = {}
    first: Columns = {}
    num_samples = 0
    with ExitStack() as stack:
        for batch in _batches(data, names):
            for name, value in batch.items():
                array = _plain(name, value)
                if not num_samples:
                    first[name] = array[:1].copy()
                    files[name] = stack.enter_context((folder / str(len(files))).open("wb"))
                elif name not in first or (array.dtype, array.shape[1:]) != (
                    first[name].dtype,
                    first[name].shape[1:],
                ):
                    raise ValueError(
                        f"from sample {num_samples} on, column {name!r} has {array.dtype} samples "
                        f"of shape {list(array.shape[1:])}, other than before"
                    )
                array.tofile(files[name])
            num_samples += len(next(iter(batch.values())))
    if not num_samples:
        raise ValueError("there is nothing to upload: the dataset is empty")
    return {
        name: np.memmap(
            folder / str(index), array.dtype, "r", shape=(num_samples, *array.shape[1:])
        )
        for index, (name, array) in enumerate(first.items())
    }


def _batches(data: Any, names: Sequence[str] | None) -> Iterator[Columns]:
    if _is_loader(data):
        for batch in data:
            yield _split(batch, names)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        for begin in range(0, len(data), SAMPLES_AT_ONCE):
            indices = range(begin, min(begin + SAMPLES_AT_ONCE, len(data)))
            stacked = gather(data, indices)
            if stacked is not None:
                yield _split(tuple(stacked), names)
            else:
                yield stack_samples([data[index] for index in indices], names)
    elif isinstance(data, Iterable):
        samples = iter(data)
        while batch := list(itertools.islice(samples, SAMPLES_AT_ONCE)):
            yield stack_samples(batch, names)
    else:
        raise TypeError(
            f"can't upload a {type(data).__name__}; give a dict of arrays, a tuple of arrays, a "
            "dataset or a loader"
        )


def stack_samples(samples: list[Any], names: Sequence[str] | None) -> Columns:
    """Returns samples as columns: arrays with one more dimension in front.

    Args:
        samples: Dicts, tuples, or single values.
        names: The columns' names, for samples that have none of their own.

    Raises:
        ValueError: They are not all alike.
    """
    first = samples[0]
    try:
        if isinstance(first, Mapping):
            return {name: np.stack([_array(each[name]) for each in samples]) for name in first}
        if isinstance(first, tuple | list):
            columns = [np.stack(list(map(_array, each))) for each in zip(*samples, strict=True)]
            return _split(tuple(columns), names)
        return _split(np.stack(list(map(_array, samples))), names)
    except (ValueError, KeyError) as error:
        raise ValueError(f"samples are not all alike: {error}") from None


def _split(batch: Any, names: Sequence[str] | None) -> Columns:
    if isinstance(batch, Mapping):
        return {str(name): _array(value) for name, value in batch.items()}
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    return dict(zip(_names(len(parts), names), map(_array, parts), strict=True))


def _names(count: int, names: Sequence[str] | None) -> Sequence[str]:
    """Returns the names of columns that have none of their own."""
    if names is not None:
        if len(names) != count:
            raise ValueError(f"there are {count} columns, but {len(names)} names: {names}")
        return names
    if count == 1:
        return ["inputs"]
    if count == 2:
        return ["inputs", "targets"]
    return [f"column_{index}" for index in range(count)]


def _array(value: Any) -> Array:
    if isinstance(value, Tensor):
        return value.numpy(force=True)
    if is_local_tensor(value):
        return array_of_local(value)
    return np.asarray(value)


def _plain(name: str, array: Array) -> Array:
    """Returns the array in the form in which its bytes are sent."""
    if not array.ndim:
        raise TypeError(f"column {name!r} is a single value, not one for each sample")
    try:
        wanted = numpy_dtype(dtype_of_array(array))
    except TypeError as error:
        raise TypeError(f"column {name!r}: {error}") from None
    return array.astype(wanted, copy=False)


def _has_shape(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor) or is_local_tensor(value)


def _is_tensor_dataset(data: Any) -> bool:
    """Whether data is a TensorDataset as it is, of gradwire or of a local torch."""
    return type(data).__name__ == "TensorDataset" and hasattr(data, "tensors")


def _is_loader(data: Any) -> bool:
    """Whether data is a DataLoader of gradwire or of a local torch: it yields batches."""
    return any(kind.__name__ == "DataLoader" for kind in type(data).__mro__)
