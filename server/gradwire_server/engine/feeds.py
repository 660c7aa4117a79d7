"""Feeds: batches that a client makes while its run trains, as far as they wait for it."""

from collections import deque
from collections.abc import Generator
from typing import NamedTuple

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.session import Session
from gradwire_server.errors import GradwireError, Reason, invalid

BUFFERED_BATCHES = 8
"""How many batches wait for their run; a client that brings more waits for its answer."""


class FedBatch(NamedTuple):
    """A batch of a client.

    Attributes:
        inputs: What the model is called with.
        targets: What the loss takes beside the model's outputs.
        ends_epoch: Whether it is the last one of its epoch.
    """

    inputs: list[torch.Tensor]
    targets: list[torch.Tensor]
    ends_epoch: bool


class Feed:
    """Batches in order, each taken once. A run takes them; a client brings them and waits."""

    def __init__(self) -> None:
        self._batches: deque[FedBatch] = deque()
        self._next_seq = 1
        self._ended = False
        self._failure = ""

    @property
    def is_ready(self) -> bool:
        """Whether `take` has something to say: there is a batch, or there will be no more."""
        return bool(self._batches) or self._ended

    @property
    def is_over(self) -> bool:
        """Whether all batches were taken, and the client has no more."""
        return self._ended and not self._batches and not self._failure

    def wants(self, seq: int) -> bool:
        """Whether a message can be taken in now: it is the next one, and there is room.

        One that was taken in before can always be, which does nothing.

        Raises:
            GradwireError: It is not numbered; INVALID_REQUEST.
        """
        if seq < 1:
            raise invalid("seq", f"is {seq}; messages are numbered from 1")
        room = len(self._batches) < BUFFERED_BATCHES
        return seq < self._next_seq or (seq == self._next_seq and room)

    def add(self, seq: int, batch: FedBatch | None, *, ends: bool, failure: str) -> None:
        """Takes in what a message brings.

        Args:
            seq: The number of the message.
            batch: What it brings, if anything.
            ends: Whether the client has no more.
            failure: Why the client can't go on, if so.

        Raises:
            GradwireError: The client said before that there is no more; OUT_OF_ORDER.
        """
        if seq < self._next_seq:
            return
        if self._ended:
            raise GradwireError(Reason.OUT_OF_ORDER, f"message {seq} comes after the last one")
        self._next_seq += 1
        if batch is not None:
            self._batches.append(batch)
        self._failure = failure
        self._ended = ends or bool(failure)

    def take(self) -> FedBatch:
        """Removes and returns the next batch.

        Raises:
            GradwireError: The client could not go on; STREAM_FAILED.
        """
        if not self._batches:
            raise GradwireError(
                Reason.STREAM_FAILED, f"the program that made the batches failed: {self._failure}"
            )
        return self._batches.popleft()


def feed_run(
    session: Session, request: runs_pb2.FeedRunRequest
) -> Generator[None, None, runs_pb2.FeedRunResponse]:
    """Takes in a batch for a run, once there is room for it; yields until then.

    Raises:
        GradwireError: No run takes its samples from the stream, or the batch is malformed.
    """
    feed = _find(session, request.stream)
    while not feed.wants(request.seq):
        yield
        # The run may have ended meanwhile.
        if session.feeds.get(request.stream) is not feed:
            _find(session, request.stream)
    batch = None
    if request.inputs:
        batch = FedBatch(
            _decode(session, request, "inputs"),
            _decode(session, request, "targets"),
            request.ends_epoch,
        )
    feed.add(request.seq, batch, ends=request.ends_stream, failure=request.failure)
    return runs_pb2.FeedRunResponse()


def _find(session: Session, stream: str) -> Feed:
    try:
        return session.feeds[stream]
    except KeyError:
        raise GradwireError(
            Reason.STREAM_NOT_FOUND,
            f'no run of {session.name} takes its samples from a stream "{stream[:100]}", or it has '
            "ended",
        ) from None


def _decode(session: Session, request: runs_pb2.FeedRunRequest, field: str) -> list[torch.Tensor]:
    tensors = []
    for index, value in enumerate(getattr(request, field)):
        path = f"{field}[{index}]"
        tensor = session.decode(value, path)
        if not isinstance(tensor, torch.Tensor) or not tensor.dim() or not len(tensor):
            raise invalid(path, "is not a tensor with samples along its first dimension")
        tensors.append(tensor)
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) > 1:
        raise invalid(field, f"have different numbers of samples: {sorted(lengths)}")
    return tensors
