"""The data of a run, in the order in which torch's DataLoader would give it."""

from collections.abc import Sequence

import torch

from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.sources import Batch, Source
from gradwire_server.engine.transforms import Transform
from gradwire_server.errors import invalid


@register
class Batches:
    """Samples cut into batches.

    Equals ``DataLoader(TensorDataset(*inputs, *targets), batch_size, shuffle, drop_last)``, random
    numbers included. Where it is in the data is for the caller to know: an epoch's order follows
    from the number that `begin_epoch` draws, and a batch from its index.

    Args:
        source: Where the samples come from.
        batch_size: Samples of a batch; all of them if 0.
        shuffle: Whether each epoch has a random order of its own.
        drop_last: Whether to leave out an incomplete last batch.
        transform: What becomes of each batch before the model sees it, if anything.

    Attributes:
        source: As given.
        transform: As given.
        num_samples: How many samples there are.
        num_batches: How many batches an epoch has.

    Raises:
        GradwireError: There are too few samples for one batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        transform: Transform | None = None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.num_samples = source.num_samples
        self._batch_size = batch_size or self.num_samples
        full, rest = divmod(self.num_samples, self._batch_size)
        self.num_batches = full + (1 if rest and not drop_last else 0)
        if not self.num_batches:
            raise invalid(
                "drop_last",
                f"leaves nothing: {self.num_samples} samples make no batch of {batch_size}",
            )
        self._shuffle = shuffle
        self._seed = 0
        self._order: torch.Tensor | None = None

    @property
    def tensors(self) -> Sequence[torch.Tensor]:
        """Tensors of the session that the samples are part of."""
        return self.source.held

    @property
    def is_ready(self) -> bool:
        """Whether the next batch is there: always."""
        return True

    @property
    def is_over(self) -> bool:
        """Whether there are no more batches: never, since epochs can be begun."""
        return False

    def open(self, session: Session) -> None:
        """Begins to take batches: nothing to be done."""

    def close(self, session: Session) -> None:
        """Takes no more batches: nothing to be done."""

    def in_order(self, batch_size: int, transform: Transform | None) -> "Batches":
        """Returns batches of the same samples in their order, to evaluate on."""
        return Batches(
            self.source,
            batch_size=batch_size,
            shuffle=False,
            drop_last=False,
            transform=transform,
        )

    def begin_epoch(self) -> None:
        """Draws the order of the next epoch."""
        # A loader draws a seed for its workers first, whether it has any or not, and then its
        # sampler one for a generator of its own, if it shuffles.
        draw_seed()
        if self._shuffle:
            self._seed = draw_seed()
        self._order = None

    def batch(self, index: int) -> Batch:
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
        batch = self.source.take(chosen)
        return batch if self.transform is None else self.transform.apply(batch)

    def __getstate__(self) -> dict[str, object]:
        # The order follows from the seed.
        return {**vars(self), "_order": None}


def draw_seed() -> int:
    """Returns a seed, drawn as torch's loaders and samplers draw theirs."""
    return int(torch.empty((), dtype=torch.int64).random_().item())
