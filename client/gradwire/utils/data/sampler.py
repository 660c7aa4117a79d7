"""Samplers: in which order a loader takes the samples of a dataset."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from gradwire.utils.data.randomness import permutation, seeded_generator, torch_of

T_co = TypeVar("T_co", covariant=True)

_DRAWN_AT_ONCE = 32
"""How many numbers torch draws at once when it draws with replacement."""


class Sampler(Generic[T_co]):
    """Base of samplers: an iterable of what a loader asks a dataset for.

    A subclass defines ``__iter__``, and ``__len__`` if its loader is to have a length.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """Takes the samples in order.

    Args:
        data_source: The dataset.
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Takes the samples in a random order, a new one each time.

    Args:
        data_source: The dataset.
        replacement: Whether a sample may be taken again before all were.
        num_samples: How many to take; as many as there are by default.
        generator: What draws; by default a new one, seeded from the session's random state.

    Raises:
        ValueError: There are no samples to take.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got {replacement=}")
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples
        _require_positive("num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        """How many samples are taken."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        generator = seeded_generator() if self.generator is None else self.generator
        num, wanted = len(self.data_source), self.num_samples
        if self.replacement:
            torch = torch_of(generator)
            full, rest = divmod(wanted, _DRAWN_AT_ONCE)
            for size in (*[_DRAWN_AT_ONCE] * full, rest):
                yield from torch.randint(
                    high=num, size=(size,), dtype=torch.int64, generator=generator
                ).tolist()
        else:
            # torch draws one more permutation in the end, also if nothing of it is needed.
            for _ in range(wanted // num):
                yield from permutation(num, generator)
            yield from permutation(num, generator)[: wanted % num]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """Takes given samples in a random order.

    Args:
        indices: Their numbers.
        generator: What draws; the session's random state by default.
    """

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for number in permutation(len(self.indices), self.generator):
            yield self.indices[number]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Takes samples with given probabilities.

    Args:
        weights: A number for each sample; they need not add up to 1.
        num_samples: How many to take.
        replacement: Whether a sample may be taken again.
        generator: What draws; the session's random state by default.

    Raises:
        ValueError: `weights` is not a sequence of numbers, or `num_samples` not a positive one.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ) -> None:
        _require_positive("num_samples", num_samples)
        _require_bool("replacement", replacement)
        torch = torch_of(generator)
        self.weights: Any = torch.as_tensor(weights, dtype=torch.float64)
        if len(self.weights.shape) != 1:
            raise ValueError(
                "weights should be a 1d sequence but given "
                f"weights have shape {tuple(self.weights.shape)}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        torch = torch_of(self.generator)
        drawn = torch.multinomial(
            self.weights, self.num_samples, self.replacement, generator=self.generator
        )
        yield from drawn.tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Takes samples in batches.

    Args:
        sampler: The order of the samples.
        batch_size: How many samples a batch has.
        drop_last: Whether to leave out a last batch that has fewer.
    """

    def __init__(
        self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool
    ) -> None:
        _require_positive("batch_size", batch_size)
        _require_bool("drop_last", drop_last)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for number in self.sampler:
            batch.append(number)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return full + (1 if rest and not self.drop_last else 0)


def _require_positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{name} should be a positive integer value, but got {name}={value}")


def _require_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} should be a boolean value, but got {name}={value}")
