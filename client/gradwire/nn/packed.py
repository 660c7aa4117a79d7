"""Sequences of different lengths in one batch."""

from typing import Any, NamedTuple, Self

from gradwire.calls import RemoteObject
from gradwire.recorder.results import TUPLE_CLASSES
from gradwire.tensors import Tensor

_NAME = "torch.nn.utils.rnn.PackedSequence"


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


class PackedSequence(_Fields):
    """The elements of several sequences, step by step; recurrent layers take and return them.

    Attributes:
        data: The elements of all sequences: first those of the first step, and so on.
        batch_sizes: How many sequences reach each step; int64, on the CPU.
        sorted_indices: How the sequences were sorted, longest first; None if they came sorted.
        unsorted_indices: How to put them back.
    """

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Self:
        """Takes the fields; `unsorted_indices` follow from `sorted_indices` if not given."""
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = sorted_indices.argsort()
        return cls._make((data, batch_sizes, sorted_indices, unsorted_indices))

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the whole on the server."""
        remote: RemoteObject | None = self.__dict__.get("_remote")
        if remote is None:
            slot = self.data._slot.session.record(_NAME, tuple(self), {})
            remote = self.__dict__["_remote"] = RemoteObject(slot)
        return remote

    def to(self, *args: Any, **kwargs: Any) -> "PackedSequence":
        """Returns the sequences with `data` converted, as `Tensor.to` does."""
        return self._replace(data=self.data.to(*args, **kwargs))

    @property
    def is_cuda(self) -> bool:
        """Whether the elements are on a CUDA device."""
        return self.data.is_cuda


TUPLE_CLASSES[_NAME] = PackedSequence._make
PackedSequence.__module__ = "gradwire.nn.utils.rnn"
