"""The data of a run, in the order in which torch's DataLoader would give it."""

from collections.abc import Sequence

import torch

from gradwire_server.engine.snapshot import register
from gradwire_server.errors import invalid


@register
class Batches:
    """Tensors with samples along their first dimension, cut into batches.

    Equals ``DataLoader(TensorDataset(*inputs, *targets), batch_size, shuffle, drop_last)``, random
    numbers included. Where it is in the data is for the caller to know: an epoch's order follows
    from the number that `begin_epoch` draws, and a batch from its index.

    Args:
        inputs: What the model is called with, one tensor for each positional argument.
        targets: What the loss takes beside the model's outputs.
        batch_size: Samples of a batch; all of them if 0.
        shuffle: Whether each epoch has a random order of its own.
        drop_last: Whether to leave out an incomplete last batch.

    Attributes:
        num_samples: How many samples there are.
        num_batches: How many batches an epoch has.

    Raises:
        GradwireError: There are no samples, tensors differ in how many they have, or there are too
            few for one batch.
    """

    def __init__(
        self,
        inputs: Sequence[torch.Tensor],
        targets: Sequence[torch.Tensor],
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
    ) -> None:
        self.num_samples = _num_samples(inputs, targets)
        self._batch_size = batch_size or self.num_samples
        full, rest = divmod(self.num_samples, self._batch_size)
        self.num_batches = full + (1 if rest and not drop_last else 0)
        if not self.num_batches:
            raise invalid(
                "drop_last",
                f"leaves nothing: {self.num_samples} samples make no batch of {batch_size}",
            )
        self.inputs, self.targets = list(inputs), list(targets)
        self._shuffle = shuffle
        self._seed = 0
        self._order: torch.Tensor | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All inputs and targets."""
        return [*self.inputs, *self.targets]

    def begin_epoch(self) -> None:
        """Draws the order of the next epoch."""
        # A loader draws a seed for its workers first, whether it has any or not, and then its
        # sampler one for a generator of its own, if it shuffles.
        _draw_seed()
        if self._shuffle:
            self._seed = _draw_seed()
        self._order = None

    def batch(self, index: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Returns the inputs and the targets of a batch of this epoch, by its index from 0."""
        chosen: torch.Tensor | slice = slice(
            index * self._batch_size, (index + 1) * self._batch_size
        )
        if self._shuffle:
            if self._order is None:
                generator = torch.Generator()
                generator.manual_seed(self._seed)
                self._order = torch.randperm(self.num_samples, generator=generator)
            chosen = self._order[chosen]
        return (
            [_select(tensor, chosen) for tensor in self.inputs],
            [_select(tensor, chosen) for tensor in self.targets],
        )

    def __getstate__(self) -> dict[str, object]:
        # The order follows from the seed.
        return {**vars(self), "_order": None}


def _draw_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


def _select(tensor: torch.Tensor, samples: "torch.Tensor | slice") -> torch.Tensor:
    if isinstance(samples, slice):
        return tensor[samples].contiguous()
    return tensor.index_select(0, samples.to(tensor.device))


def _num_samples(inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> int:
    if not inputs:
        raise invalid("inputs", "is empty; give the tensors to train on")
    num_samples = len(inputs[0])
    if not num_samples:
        raise invalid("inputs[0]", "holds no samples")
    for field, tensors in (("inputs", inputs), ("targets", targets)):
        for index, tensor in enumerate(tensors):
            if len(tensor) != num_samples:
                raise invalid(
                    f"{field}[{index}]",
                    f"holds {len(tensor)} samples, but inputs[0] holds {num_samples}",
                )
    return num_samples
