"""The batches of a run that its client makes while it trains."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from gradwire_server.engine.batches import draw_seed
from gradwire_server.engine.feeds import Feed
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.sources import Batch
from gradwire_server.engine.transforms import Transform
from gradwire_server.errors import GradwireError, Reason, invalid

UNKNOWN_BATCHES = 2**40
"""How many batches an epoch has as long as its end is not in sight."""


@register
class StreamBatches:
    """Batches in the order in which a client brings them.

    Args:
        name: What the client calls the stream.
        transform: What becomes of each batch before the model sees it, if anything.

    Attributes:
        num_samples: 0: nobody knows.
        num_batches: How many batches the epoch has, once its last one was taken.
        transform: As given.
    """

    num_samples = 0

    def __init__(self, name: str, transform: Transform | None) -> None:
        self._name = name
        self._feed: Feed | None = None
        self.transform = transform
        self.num_batches = UNKNOWN_BATCHES

    def open(self, session: Session) -> None:
        """Begins to take batches.

        Raises:
            GradwireError: Another run takes its samples from the stream.
        """
        if self._name in session.feeds:
            raise invalid("data.stream", f'"{self._name[:100]}" is that of another run')
        self._feed = session.feeds[self._name] = Feed()

    @property
    def tensors(self) -> Sequence[torch.Tensor]:
        """Tensors of the session that the samples are part of: none."""
        return ()

    @property
    def is_ready(self) -> bool:
        """Whether the next batch is there, or there is no more."""
        return self._feed is None or self._feed.is_ready

    @property
    def is_over(self) -> bool:
        """Whether all batches were taken."""
        return self._feed is not None and self._feed.is_over

    def begin_epoch(self) -> None:
        """Begins an epoch, whose length is not known; draws what a loader draws first."""
        draw_seed()
        self.num_batches = UNKNOWN_BATCHES

    def batch(self, index: int) -> Batch:
        """Returns the inputs and the targets of the next batch, the `index`-th of this epoch.

        Raises:
            GradwireError: The client failed, or is not there any more.
        """
        if self._feed is None:
            raise GradwireError(
                Reason.STREAM_FAILED,
                "the run took its samples from a program, which can't send again what was lost "
                "when the worker ended; begin another run, or upload the data as a dataset",
            )
        fed = self._feed.take()
        if fed.ends_epoch:
            self.num_batches = index + 1
        batch = (fed.inputs, fed.targets)
        return batch if self.transform is None else self.transform.apply(batch)

    def in_order(self, batch_size: int, transform: Transform | None) -> NoReturn:
        """Refuses: what was taken once is gone."""
        del batch_size, transform
        raise invalid("metrics", "need validation data if the samples come as a stream")

    def close(self, session: Session) -> None:
        """Takes no more: who brings more is told so."""
        session.feeds.pop(self._name, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_feed": None}
