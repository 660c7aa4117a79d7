"""The loader: batches of a dataset, in the order that torch's would have."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from gradwire.utils.data.collate import as_batch, default_collate, default_convert
from gradwire.utils.data.dataset import IterableDataset, gather
from gradwire.utils.data.randomness import draw_seed
from gradwire.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

_FIXED = frozenset(
    {"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"}
)
"""What of a loader can't be changed, as it depends on the rest."""


class DataLoader:
    """Yields batches of a dataset.

    The arguments are torch's, and so are the checks. Samples are always loaded by the thread that
    iterates: `num_workers` and what goes with it are accepted and have no effect, because the
    session takes batches in while the server computes. The same holds for `pin_memory`.

    Args:
        dataset: Anything with samples by number and a length, or an iterable dataset.
        batch_size: Samples of a batch; None to yield the samples themselves.
        shuffle: Whether each pass has a new random order.
        sampler: The order of the samples.
        batch_sampler: The batches, as lists of numbers.
        num_workers: Accepted; no processes are started.
        collate_fn: Makes a batch of a list of samples; `default_collate` by default.
        pin_memory: Accepted.
        drop_last: Whether to leave out an incomplete last batch.
        timeout: Accepted.
        worker_init_fn: Accepted.
        multiprocessing_context: Accepted.
        generator: What draws; the session's random state by default.
        prefetch_factor: Accepted if `num_workers` is positive.
        persistent_workers: Accepted if `num_workers` is positive.
        pin_memory_device: Accepted.
        in_order: Accepted.

    Raises:
        ValueError: Arguments contradict each other.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self._iterable = is_iterable_dataset(dataset)
        if self._iterable:
            for name, value in (
                ("shuffle", shuffle or None),
                ("sampler", sampler),
                ("batch_sampler", batch_sampler),
            ):
                if value is not None:
                    raise ValueError(
                        f"DataLoader with IterableDataset: expected unspecified {name} option, but "
                        f"got {name}={value}"
                    )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, "
                    "and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError(
                "batch_size=None option disables auto-batching and is mutually exclusive with "
                "drop_last"
            )
        chosen: Sampler[Any] | Iterable[Any]
        if sampler is not None:
            chosen = sampler
        elif self._iterable:
            chosen = _Endless()
        elif shuffle:
            chosen = RandomSampler(dataset, generator=generator)
        else:
            chosen = SequentialSampler(dataset)
        if batch_size is not None:
            batch_sampler = BatchSampler(cast("Iterable[int]", chosen), batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = chosen
        self.batch_sampler = batch_sampler
        self.drop_last = drop_last
        self.generator = generator
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        default = default_convert if batch_sampler is None else default_collate
        self.collate_fn: Callable[[Any], Any] = default if collate_fn is None else collate_fn
        self._is_made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and getattr(self, "_is_made", False):
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized"
            )
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[Any]:
        # torch draws a seed for its workers first, whether there are any or not. It does so when
        # the iterator is made, and so the iterator is a generator that was started.
        draw_seed(self.generator)
        return self.batches()

    def __len__(self) -> int:
        if self._iterable:
            length = len(self.dataset)
            if self.batch_size is None:
                return length
            full, rest = divmod(length, self.batch_size)
            return full + (1 if rest and not self.drop_last else 0)
        chosen: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return len(chosen)

    def batches(self) -> Iterator[Any]:
        """Yields the batches without drawing the seed that an iterator draws first."""
        if self._iterable:
            yield from self._batches_of_iterable()
        elif self.batch_sampler is None:
            for index in self.sampler:
                yield self.collate_fn(self.dataset[index])
        else:
            for indices in self.batch_sampler:
                yield self._batch(indices)

    def _batch(self, indices: list[Any]) -> Any:
        if self.collate_fn is default_collate:
            columns = gather(self.dataset, indices)
            if columns is not None:
                return as_batch(columns)
        if callable(getattr(self.dataset, "__getitems__", None)):
            return self.collate_fn(self.dataset.__getitems__(indices))
        return self.collate_fn([self.dataset[index] for index in indices])

    def _batches_of_iterable(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield self.collate_fn(batch)


class _Endless(Sampler[None]):
    """The sampler of an iterable dataset, which knows its order itself."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


def get_worker_info() -> None:
    """Returns None: samples are loaded by the thread that iterates, as torch's num_workers=0."""
    return


def is_iterable_dataset(dataset: Any) -> bool:
    """Whether samples come one after the other, as of an IterableDataset of gradwire or torch."""
    names = {kind.__name__ for kind in type(dataset).__mro__}
    return isinstance(dataset, IterableDataset) or "IterableDataset" in names


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool
) -> None:
    if num_workers < 0:
        raise ValueError(
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing."
        )
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if not num_workers and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing."
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        )
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
    if persistent_workers and not num_workers:
        raise ValueError("persistent_workers option needs num_workers > 0")
