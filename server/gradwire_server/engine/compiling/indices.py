"""Operations that index memory by what is in tensors: native code must not, unchecked.

torch's kernels raise an error for an index that is out of range; what a compiler makes of them ends
the process. So the graph checks indices itself, uses others in place of bad ones, and changes
nothing then: torch takes such a step, and finds the words for it.
"""

from dataclasses import dataclass
from typing import Any

import torch

aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class Indexing:
    """How an operation indexes.

    Attributes:
        index: Which argument the indices are.
        of: Which argument is indexed, or says how many there are.
        dim: The dimension that is indexed; from the end, so that a batch may be missing.
        ignored: Which argument is an index that is left out, wherever it points; -1 for none.
    """

    index: int
    of: int
    dim: int = 0
    ignored: int = -1

    def limit(self, args: tuple[Any, ...]) -> int:
        """Returns the number that indices must be less than."""
        of = args[self.of]
        return int(of.shape[self.dim] if isinstance(of, torch.Tensor) else of)


CHECKED: dict[Any, Indexing] = {
    aten.embedding.default: Indexing(index=1, of=0),
    aten.embedding_dense_backward.default: Indexing(index=1, of=2),
    aten.nll_loss_forward.default: Indexing(index=1, of=0, dim=-1, ignored=4),
    aten.nll_loss_backward.default: Indexing(index=2, of=1, dim=-1, ignored=5),
    aten.nll_loss2d_forward.default: Indexing(index=1, of=0, dim=-3, ignored=4),
    aten.nll_loss2d_backward.default: Indexing(index=2, of=1, dim=-3, ignored=5),
}
"""The operations whose indices a graph checks."""

_INDEXING = (
    *("bucketize", "embedding", "gather", "grid_sampler", "index", "nll_loss", "put"),
    *("scatter", "searchsorted", "take", "unpool", "multi_margin", "multilabel_margin", "ctc"),
)
_DIVIDING = frozenset(
    (
        *("floor_divide", "floor_divide_", "remainder", "remainder_", "fmod", "fmod_"),
        *("div.Tensor_mode", "div.Scalar_mode", "div_.Tensor_mode", "div_.Scalar_mode"),
    )
)


def is_unsafe(func: Any, args: tuple[Any, ...]) -> bool:
    """Returns whether native code of an operation could end the process."""
    name = func.__name__.partition(".")[0]
    if func not in CHECKED and any(part in name for part in _INDEXING):
        return True
    if name in _DIVIDING or func.__name__ in _DIVIDING:
        # Integers divided by zero do.
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        return not any(tensor.is_floating_point() for tensor in tensors)
    return False
