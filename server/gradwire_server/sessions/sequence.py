"""The order of a session's Execute messages, and their answers for those who resend them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from xxhash import xxh3_128_digest

from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.sessions.kept import KeptAnswer
from gradwire_server.sessions.once import request_changed
from gradwire_server.workers.frames import Frame

_NAME_TAG = 0x0A
"""How a message begins whose first field is number 1, of type string."""


@dataclass(frozen=True, slots=True, eq=False)
class _Accepted:
    seq: int
    digest: bytes
    reply: asyncio.Future[Frame]


class MessageSequence:
    """Accepts numbered messages in order, each once, and keeps the answers for resent ones.

    Args:
        max_answers: How many answers to keep that the sender has not acknowledged; the oldest
            are forgotten.
        max_bytes: How many bytes of such answers to keep; the last is kept whatever its size.
        last_seq: The number of the last message that was accepted before, elsewhere.
    """

    def __init__(
        self, *, max_answers: int = 4096, max_bytes: int = 64 * 1024 * 1024, last_seq: int = 0
    ) -> None:
        self._last_seq = last_seq
        self._kept: deque[_Accepted] = deque()
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self.num_repeated = 0
        """How many messages were answered by the answer to another."""

    @property
    def last_seq(self) -> int:
        """The number of the last message accepted."""
        return self._last_seq

    @property
    def num_kept(self) -> int:
        """How many messages are pending or have an answer that is kept."""
        return len(self._kept)

    def kept(self) -> Iterator[KeptAnswer]:
        """Yields the answers that may be asked for again, oldest first; all have arrived."""
        for accepted in self._kept:
            if accepted.reply.exception() is None:
                yield KeptAnswer(accepted.seq, accepted.digest, accepted.reply.result())

    def restore(self, answers: Iterable[KeptAnswer]) -> None:
        """Takes over the answers to the last messages that were accepted before, elsewhere."""
        for answer in answers:
            reply: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
            reply.set_result(answer.frame)
            self._kept.append(_Accepted(int(answer.key), answer.digest, reply))
            self._num_bytes += len(answer.frame.payload)

    def accept(
        self,
        seq: int,
        acknowledged_seq: int,
        payload: bytes,
        send: Callable[[], "asyncio.Future[Frame]"],
    ) -> "asyncio.Future[Frame]":
        """Returns the answer to a message: the first one if it was sent before.

        Args:
            seq: The number of the message.
            acknowledged_seq: Up to where the sender has all answers.
            payload: The message.
            send: Sends the message to the worker. The future must not be cancelled.

        Raises:
            GradwireError: OUT_OF_ORDER if a message before this one is missing or its answer is
                forgotten, REQUEST_CHANGED if it differs from the first of its number,
                INVALID_REQUEST if the number is not positive. The number is then not used up.
        """
        if seq < 1:
            raise invalid("seq", f"is {seq}; the messages of a session are numbered from 1")
        if seq > self._last_seq + 1:
            raise self._out_of_order(seq, "a message in between is missing; send it first")
        digest = _digest(payload)
        if seq == self._last_seq + 1:
            accepted = _Accepted(seq, digest, send())
            self._last_seq = seq
            self._kept.append(accepted)
            accepted.reply.add_done_callback(self._settle)
        else:
            accepted = self._find(seq)
            if accepted.digest != digest:
                raise request_changed("seq", seq)
            self.num_repeated += 1
        self._forget(acknowledged_seq)
        return accepted.reply

    def _find(self, seq: int) -> _Accepted:
        if self._kept and seq >= self._kept[0].seq:
            return self._kept[seq - self._kept[0].seq]
        raise self._out_of_order(
            seq, "it was answered before, and the answer is acknowledged or too old to be kept"
        )

    def _out_of_order(self, seq: int, why: str) -> GradwireError:
        expected = self._last_seq + 1
        return GradwireError(
            Reason.OUT_OF_ORDER,
            f"seq is {seq}, but the next of the session is {expected}: {why}.",
            metadata={"seq": str(seq), "expected_seq": str(expected)},
        )

    def _settle(self, reply: "asyncio.Future[Frame]") -> None:
        """Counts an answer that has arrived, and makes room for it."""
        self._num_bytes += _size(reply)
        while len(self._kept) > 1 and (
            len(self._kept) > self._max_answers or self._num_bytes > self._max_bytes
        ):
            if not self._kept[0].reply.done():
                break
            self._drop_first()

    def _forget(self, acknowledged_seq: int) -> None:
        while self._kept and self._kept[0].seq <= acknowledged_seq and self._kept[0].reply.done():
            self._drop_first()

    def _drop_first(self) -> None:
        self._num_bytes -= _size(self._kept.popleft().reply)


def _size(reply: "asyncio.Future[Frame]") -> int:
    return len(reply.result().payload) if reply.exception() is None else 0


def _digest(payload: bytes) -> bytes:
    """Returns a digest of a message without its session's name.

    The first message of a stream has the name and others need not, so a message that is resent on
    a new stream may have it where it had none before.
    """
    start = 0
    if payload and payload[0] == _NAME_TAG and len(payload) > 1 and payload[1] < 0x80:
        start = 2 + payload[1]
    # It tells a sender of its own mistake; nobody else's messages are among those compared.
    return xxh3_128_digest(memoryview(payload)[start:])
