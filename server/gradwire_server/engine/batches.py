"""The data of a run, in the order in which torch's DataLoader would give it."""

from collections import deque
from collections.abc import Sequence

import torch

from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.sources import Batch, Source
from gradwire_server.engine.transforms import Transform
from gradwire_server.errors import invalid

AHEAD_BYTES = 128 * 1024
"""How much may be read at once for batches to come."""

MAX_AHEAD = 64
"""How many batches may be read at once."""


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
        ahead: Whether small batches are read several at once. They are parts of one tensor each
            then, and lie elsewhere in memory than torch's own would, which the last bits of what is
            computed of them may depend on.

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
        ahead: bool = False,
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
        self._reads_ahead = ahead
        self._num_ahead = 1
        self._ahead: deque[Batch] = deque()
        self._next = 0
        """The batch that is the first of those read ahead."""

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
        self._ahead.clear()

    def batch(self, index: int) -> Batch:
        """Returns the inputs and the targets of a batch of this epoch, by its index from 0."""
        if not self._ahead or index != self._next:
            self._read(index)
        batch = self._ahead.popleft()
        self._next = index + 1
        return batch if self.transform is None else self.transform.apply(batch)

    def _read(self, index: int) -> None:
        """Reads a batch, and those after it that are small enough to be read with it."""
        begin = index * self._batch_size
        chosen: torch.Tensor | slice = slice(begin, begin + self._num_ahead * self._batch_size)
        if self._shuffle:
            if self._order is None:
                generator = torch.Generator()
                generator.manual_seed(self._seed)
                self._order = torch.randperm(self.num_samples, generator=generator)
            chosen = self._order[chosen]
        inputs, targets = self.source.take(chosen)
        if self._num_ahead == 1:
            self._ahead = deque([(inputs, targets)])
        else:
            parts = zip(
                *(tensor.split(self._batch_size) for tensor in (*inputs, *targets)), strict=True
            )
            self._ahead = deque(
                (list(part[: len(inputs)]), list(part[len(inputs) :])) for part in parts
            )
        if self._reads_ahead:
            num_bytes = sum(tensor.nbytes for tensor in (*inputs, *targets)) // len(self._ahead)
            self._num_ahead = max(1, min(MAX_AHEAD, AHEAD_BYTES // max(num_bytes, 1)))

    def __getstate__(self) -> dict[str, object]:
        # The order follows from the seed, and what was read ahead from the order.
        return {**vars(self), "_order": None, "_ahead": deque()}


def draw_seed() -> int:
    """Returns a seed, drawn as torch's loaders and samplers draw theirs."""
    return int(torch.empty((), dtype=torch.int64).random_().item())
