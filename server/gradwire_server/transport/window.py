"""How much of a stream may be under way: what is beyond that is not read from its caller."""

import asyncio

MAX_UNANSWERED = 16
"""How many messages may be unanswered; enough to keep a worker busy."""
MAX_BYTES = 64 * 1024 * 1024
"""How many bytes of messages that are unanswered, and of answers that the caller has not taken, may
be kept; a single message may have more."""


class Window:
    """Counts the messages of one stream and their answers.

    gRPC takes from a caller what fits into its own buffers, some ten thousand bytes, when nobody
    reads: so one that sends faster than the worker computes, or takes no answers, waits.
    """

    def __init__(self) -> None:
        self._num_unanswered = 0
        self._num_bytes = 0
        self._change = asyncio.Event()

    async def enter(self, num_bytes: int) -> None:
        """Waits until a message may be carried out, and counts it."""
        while self._num_bytes and (
            self._num_unanswered >= MAX_UNANSWERED or self._num_bytes + num_bytes > MAX_BYTES
        ):
            self._change.clear()
            await self._change.wait()
        self._num_unanswered += 1
        self._num_bytes += num_bytes

    def answered(self, num_bytes: int, num_answer_bytes: int) -> None:
        """Counts an answer in place of its message."""
        self._num_unanswered -= 1
        self._num_bytes += num_answer_bytes - num_bytes
        self._change.set()

    def taken(self, num_answer_bytes: int) -> None:
        """Counts an answer no more: the caller has taken it."""
        self._num_bytes -= num_answer_bytes
        self._change.set()
