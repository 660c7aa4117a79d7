"""Transforms of batches, which run on the device.

Names and arguments are those of torchvision.transforms.v2, but a transform takes a whole batch,
with the samples along the first dimension, and draws for each sample by itself::

    augment = transforms.Compose(
        [
            transforms.ToDtype(gradwire.float32, scale=True),
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.Normalize([0.49, 0.48, 0.45], [0.25, 0.24, 0.26]),
        ]
    )

They may be called on tensors, or given to ``gradwire.train``, which records them once and has the
server apply them to each batch. They draw from the random state of the session, so a seed fixes
them. What is random happens in training only, as in ``nn.Dropout``; see `evaluating`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import gradwire
from gradwire.tensors import Tensor
from gradwire.types import dtype

__all__ = [
    "CenterCrop",
    "Compose",
    "GaussianNoise",
    "Normalize",
    "OneHot",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "ToDtype",
    "Transform",
    "evaluating",
]

_training: ContextVar[bool] = ContextVar("training", default=True)


@contextmanager
def evaluating() -> Iterator[None]:
    """Within the block, random transforms do what they do on average, which mostly is nothing."""
    token = _training.set(False)
    try:
        yield
    finally:
        _training.reset(token)


class Transform:
    """Base of the ready-made transforms: a function from a batch to a batch."""

    def __call__(self, batch: Any) -> Any:
        """Returns the transformed batch."""
        return self._apply(batch) if _training.get() else self._evaluate(batch)

    def _apply(self, batch: Any) -> Any:
        raise NotImplementedError

    def _evaluate(self, batch: Any) -> Any:
        """Returns what becomes of a batch in evaluation."""
        return self._apply(batch)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class Compose(Transform):
    """Applies transforms one after the other.

    Args:
        transforms: Functions from a batch to a batch.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def _apply(self, batch: Any) -> Any:
        for transform in self.transforms:
            batch = transform(batch)
        return batch


class ToDtype(Transform):
    """Converts the elements.

    Args:
        dtype: The element type.
        scale: Whether integers from 0 to 255 become floating point numbers from 0 to 1.
    """

    def __init__(self, dtype: dtype, scale: bool = False) -> None:
        if scale and not dtype.is_floating_point:
            raise ValueError(f"scale=True is for floating point types, not {dtype}")
        self.dtype = dtype
        self.scale = scale

    def _apply(self, batch: Tensor) -> Any:
        converted = batch.to(self.dtype)
        # What is floating point already is in the right range.
        return converted / 255 if self.scale and not batch.is_floating_point() else converted


class Normalize(Transform):
    """Subtracts a mean and divides by a standard deviation.

    Args:
        mean: A number, or one for each channel: the second dimension of batches that have four,
            ``[samples, channels, height, width]``, and the last of others.
        std: The same.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        if not all(_numbers(std)):
            raise ValueError(f"std must not be zero: {std}")
        self.mean = mean
        self.std = std

    def _apply(self, batch: Tensor) -> Any:
        return (batch - _by_channel(self.mean, batch)) / _by_channel(self.std, batch)


class RandomHorizontalFlip(Transform):
    """Mirrors each sample from left to right with probability `p`.

    Args:
        p: The probability.
    """

    _dim = -1

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability from 0 to 1, not {p}")
        self.p = p

    def _apply(self, batch: Tensor) -> Any:
        _require_images(self, batch)
        shape = (batch.shape[0], *[1] * (batch.ndim - 1))
        chosen = gradwire.rand(shape, device=batch.device) < self.p
        return gradwire.where(chosen, batch.flip(self._dim), batch)

    def _evaluate(self, batch: Any) -> Any:
        return batch


class RandomVerticalFlip(RandomHorizontalFlip):
    """Mirrors each sample upside down with probability `p`.

    Args:
        p: The probability.
    """

    _dim = -2


class CenterCrop(Transform):
    """Takes the middle of each image.

    Args:
        size: Height and width, or one number for both.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _pair(size)

    def _apply(self, batch: Tensor) -> Any:
        tops = []
        for dim, size in zip((-2, -1), self.size, strict=True):
            _require_fits(size, int(batch.shape[dim]))
            tops.append(round((int(batch.shape[dim]) - size) / 2))
        (top, left), (height, width) = tops, self.size
        return batch[..., top : top + height, left : left + width]


class RandomCrop(Transform):
    """Takes a part of each image, at a place drawn for each by itself; the middle in evaluation.

    Args:
        size: Height and width of the part, or one number for both.
        padding: How many zeros to add on each side first; not in evaluation, unless the image is
            smaller than the part.
    """

    def __init__(self, size: int | Sequence[int], padding: int = 0) -> None:
        self.size = _pair(size)
        self.padding = padding

    def _apply(self, batch: Tensor) -> Any:
        _require_images(self, batch)
        if self.padding:
            batch = _pad(batch, self.padding)
        for dim, size in zip((-2, -1), self.size, strict=True):
            batch = _random_window(batch, dim, size)
        return batch

    def _evaluate(self, batch: Any) -> Any:
        height, width = self.size
        if height > int(batch.shape[-2]) or width > int(batch.shape[-1]):
            batch = _pad(batch, self.padding)
        return CenterCrop(self.size)(batch)


class GaussianNoise(Transform):
    """Adds normally distributed noise.

    Args:
        mean: Its mean.
        sigma: Its standard deviation.
        clip: Whether to keep the result within 0 and 1.
    """

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = False) -> None:
        if sigma < 0:
            raise ValueError(f"sigma must not be negative: {sigma}")
        self.mean = mean
        self.sigma = sigma
        self.clip = clip

    def _apply(self, batch: Tensor) -> Any:
        noisy = batch + gradwire.randn_like(batch) * self.sigma + self.mean
        return noisy.clamp(0, 1) if self.clip else noisy

    def _evaluate(self, batch: Any) -> Any:
        return batch


class OneHot(Transform):
    """Makes of each class a vector with 1 in its place and 0 elsewhere.

    Args:
        num_classes: The length of the vectors. A class that is not below it is an error.
        dtype: The element type of the vectors; float32 by default, for losses on probabilities.
    """

    def __init__(self, num_classes: int, dtype: dtype | None = None) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be positive, not {num_classes}")
        self.num_classes = num_classes
        self.dtype = dtype

    def _apply(self, batch: Tensor) -> Any:
        vectors = gradwire.nn.functional.one_hot(batch.long(), self.num_classes)
        return vectors.to(self.dtype or gradwire.float32)


def _pad(batch: Any, padding: int) -> Any:
    return gradwire.nn.functional.pad(batch, [padding] * 4)


def _random_window(batch: Any, dim: int, size: int) -> Any:
    """Returns `size` elements along a dimension, from a place drawn for each sample."""
    total = int(batch.shape[dim])
    _require_fits(size, total)
    ones = [1] * (batch.ndim - 1)
    first = gradwire.randint(0, total - size + 1, (batch.shape[0], *ones), device=batch.device)
    steps = gradwire.arange(size, device=batch.device)
    steps = steps.view(-1, 1) if dim == -2 else steps
    shape = list(batch.shape)
    shape[dim] = size
    return batch.gather(dim, (first + steps).expand(shape))


def _by_channel(values: float | Sequence[float], batch: Any) -> Any:
    if isinstance(values, int | float):
        return values
    tensor = gradwire.tensor(
        list(values), dtype=batch.dtype if batch.is_floating_point() else gradwire.float32
    ).to(batch.device)
    return tensor.view(-1, 1, 1) if batch.ndim == 4 else tensor


def _numbers(values: float | Sequence[float]) -> Sequence[float]:
    return [values] if isinstance(values, int | float) else list(values)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size must be positive, not {size}")
    return height, width


def _require_fits(size: int, total: int) -> None:
    if size > total:
        raise ValueError(f"can't take {size} of {total}; give a smaller size, or padding")


def _require_images(transform: Transform, batch: Any) -> None:
    if batch.ndim < 3:
        raise ValueError(
            f"{type(transform).__name__} takes images, [samples, ..., height, width], not a batch "
            f"of shape {list(batch.shape)}"
        )
