"""The data of a run, in the order in which torch's DataLoader would give it."""

from collections.abc import Iterator, Sequence

import torch

from gradwire_server.errors import invalid


class Batches:
    """Tensors with samples along their first dimension, cut into batches.

    Equals ``DataLoader(TensorDataset(*inputs, *targets), batch_size, shuffle, drop_last)``, random
    numbers included.

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
        self._inputs, self._targets = inputs, targets
        self._shuffle = shuffle

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All inputs and targets."""
        return [*self._inputs, *self._targets]

    def epoch(self) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
        """Yields the inputs and the targets of each batch."""
        # A loader draws a seed for its workers first, whether it has any or not, and then its
        # sampler one for a generator of its own, if it shuffles.
        _draw_seed()
        order = None
        if self._shuffle:
            generator = torch.Generator()
            generator.manual_seed(_draw_seed())
            order = torch.randperm(self.num_samples, generator=generator)
        for number in range(self.num_batches):
            samples = slice(number * self._batch_size, (number + 1) * self._batch_size)
            chosen = samples if order is None else order[samples]
            yield (
                [_select(tensor, chosen) for tensor in self._inputs],
                [_select(tensor, chosen) for tensor in self._targets],
            )


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
