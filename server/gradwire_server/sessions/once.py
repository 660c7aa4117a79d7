"""Once-only execution of requests that carry a `request_id`."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.sessions.answers import has_effect, outcome_of, was_cancelled
from gradwire_server.sessions.kept import KeptAnswer
from gradwire_server.workers.frames import Frame

MAX_REQUEST_ID_LENGTH = 128

_Key = tuple[str, str]
"""Whose request, and its id."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    digest: bytes
    task: asyncio.Task[Frame]
    num_waiting: int = 0
    num_bytes: int = 0


class OnceOnly:
    """Answers a request that was seen before as it was answered the first time.

    A resent request waits for the first if that is still being carried out. An answer that says
    that nothing was carried out is not kept, so that sending the request again may succeed.

    Args:
        max_answers: How many answers to keep; the least recently used are forgotten.
        max_bytes: How many bytes of answers to keep; the last answer is kept whatever its size.
    """

    def __init__(self, *, max_answers: int = 1024, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self.num_repeated = 0
        """How many requests were answered by the answer to another."""

    def __len__(self) -> int:
        return len(self._entries)

    def kept(self) -> Iterator[KeptAnswer]:
        """Yields the answers that have arrived, the least recently used first, of no owner."""
        for (owner, request_id), entry in self._entries.items():
            if not owner and entry.task.done() and entry.task.exception() is None:
                yield KeptAnswer(request_id, entry.digest, entry.task.result())

    def restore(self, answers: Iterable[KeptAnswer]) -> None:
        """Takes over answers that were given before, elsewhere."""
        for answer in answers:
            task = asyncio.create_task(_given(answer.frame))
            num_bytes = len(answer.frame.payload)
            entry = _Entry(digest=answer.digest, task=task, num_bytes=num_bytes)
            self._entries["", str(answer.key)] = entry
            self._num_bytes += num_bytes

    async def run(
        self,
        request_id: str,
        method: str,
        payload: bytes,
        start: Callable[[], Coroutine[Any, Any, Frame]],
        *,
        owner: str = "",
    ) -> Frame:
        """Returns the answer to a request, which is carried out at most once.

        When all who wait for an answer have gone away, its execution is cancelled.

        Args:
            request_id: Identifies the request over all its retries.
            method: The RPC's method name.
            payload: The request.
            start: Begins to carry the request out, and returns what waits for the answer. When
                that is cancelled it must still find out whether the request was carried out.
            owner: Whose request it is; ids of different owners have nothing to do with each other.

        Raises:
            GradwireError: REQUEST_CHANGED if the same id was used for another request;
                otherwise as `start`.
        """
        if len(request_id) > MAX_REQUEST_ID_LENGTH:
            raise GradwireError(
                Reason.INVALID_REQUEST,
                f"request_id: has {len(request_id)} characters; {MAX_REQUEST_ID_LENGTH} at most",
                fields=[("request_id", f"has more than {MAX_REQUEST_ID_LENGTH} characters")],
            )
        key = (owner, request_id)
        digest = sha256(method.encode() + b"\0" + payload).digest()
        while True:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._begin(key, digest, start)
            elif entry.digest != digest:
                raise request_changed("request_id", request_id)
            else:
                self._entries.move_to_end(key)
                self.num_repeated += 1
            entry.num_waiting += 1
            cancelled_before = entry.task.cancelling()
            try:
                await asyncio.wait((entry.task,))
            finally:
                entry.num_waiting -= 1
                if not entry.num_waiting and not entry.task.done():
                    entry.task.cancel()
            # Who joined after the others had left asks for the request to be carried out.
            if not (cancelled_before and was_cancelled(outcome_of(entry.task))):
                return entry.task.result()

    def _begin(
        self, key: _Key, digest: bytes, start: Callable[[], Coroutine[Any, Any, Frame]]
    ) -> _Entry:
        entry = _Entry(digest=digest, task=asyncio.create_task(start()))
        self._entries[key] = entry
        entry.task.add_done_callback(lambda task: self._settle(key, entry))
        return entry

    def _settle(self, key: _Key, entry: _Entry) -> None:
        """Keeps or forgets an answer that has arrived."""
        if not has_effect(outcome_of(entry.task)):
            del self._entries[key]
            return
        if entry.task.exception() is None:
            entry.num_bytes = len(entry.task.result().payload)
        self._num_bytes += entry.num_bytes
        self._shrink(key)

    def _shrink(self, newest: _Key) -> None:
        for key, entry in list(self._entries.items()):
            if len(self._entries) <= self._max_answers and self._num_bytes <= self._max_bytes:
                return
            if entry.task.done() and key != newest:
                del self._entries[key]
                self._num_bytes -= entry.num_bytes


async def _given(frame: Frame) -> Frame:
    return frame


def request_changed(what: str, value: object) -> GradwireError:
    """Returns the error for a resent request that differs from the first."""
    return GradwireError(
        Reason.REQUEST_CHANGED,
        f"{what} {value} was used before for another request; a resent request must be the "
        f"same byte for byte, and a new request needs a new {what}.",
        metadata={what: str(value)},
    )
