"""Triplet losses with a distance of the script's own, which runs in the script and is recorded."""

from collections.abc import Callable
from typing import Any

from gradwire.calls import make_function
from gradwire.nn.builtin import module_class
from gradwire.nn.module import Module
from gradwire.tensors import Tensor

Distance = Callable[[Any, Any], Any]
"""Takes two batches and returns the distance of each pair."""

_pairwise_distance = make_function("torch.pairwise_distance", "tensor")


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """Returns how much nearer an anchor should be to its positive than to its negative example.

    Args:
        anchor: A batch.
        positive: For each element of `anchor`, one that should be near.
        negative: For each element of `anchor`, one that should be far.
        distance_function: The distance; the Euclidean one by default.
        margin: How much nearer, at least.
        swap: Whether the distance of the positive and the negative counts if it is smaller.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: The margin is not positive, or there is no such reduction.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = distance_function or _pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    loss = (near + margin - far).clamp_min(0)
    return loss if reduction == "none" else getattr(loss, reduction)()


class TripletMarginWithDistanceLoss(Module):
    """As `triplet_margin_with_distance_loss`, as a module.

    Args:
        distance_function: The distance, a function or a module; `PairwiseDistance` by default.
        margin: How much nearer an anchor should be to its positive example, at least.
        swap: Whether the distance of the positive and the negative counts if it is smaller.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: The margin is not positive.
    """

    def __init__(
        self,
        *,
        distance_function: Distance | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(
                "TripletMarginWithDistanceLoss: expected margin to be greater than 0, got "
                f"{margin} instead"
            )
        pairwise_distance = module_class("torch.nn.PairwiseDistance")
        assert pairwise_distance is not None
        self.distance_function: Any = distance_function or pairwise_distance()
        self.margin = margin
        self.swap = swap
        self.reduction = reduction

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Any:
        """Returns the loss."""
        return triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )
