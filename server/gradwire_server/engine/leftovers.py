"""The values that unary calls leave behind, and when they end.

A caller of Forward and ComputeLoss gets handles and need not release them. As a variable in a loop
is bound anew, so the oldest of these values go when newer ones come: there are never more than
:data:`MAX_HANDLES`, and never more than a quarter of what the session may hold, counting the
graphs that autograd keeps for them. What the latest calls left behind is always there.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from gradwire_server.engine.reach import Reach, tensors_in

MAX_HANDLES = 1024
NUM_ALWAYS_KEPT = 2
"""How many calls are not measured and not dropped: a training loop has freed the graph of a
Forward and of a ComputeLoss, which makes measuring cheap, when the next ones come."""


class _Entry:
    """What one call left behind.

    Attributes:
        handles: The handles of its values.
        num_bytes: What was measured; 0 if nothing yet.
    """

    __slots__ = ("handles", "num_bytes")

    def __init__(self, handles: tuple[int, ...]) -> None:
        self.handles = handles
        self.num_bytes = 0


class Leftovers:
    """Drops the oldest of the values that unary calls left behind.

    Args:
        values: The session's values by handle; this drops some of them.
        limit_bytes: How much they may take with their graphs.
    """

    def __init__(self, values: dict[int, Any], limit_bytes: int) -> None:
        self._values = values
        self._limit_bytes = limit_bytes
        self._entries: deque[_Entry] = deque()
        self._num_handles = 0
        self._num_bytes = 0
        self._num_unmeasured = 0

    def add(self, handles: Sequence[int]) -> None:
        """Takes note of the values of one call; drops older ones if they are too many."""
        self._entries.append(_Entry(tuple(handles)))
        self._num_handles += len(handles)
        self._num_unmeasured += 1
        while self._num_handles > MAX_HANDLES and len(self._entries) > 1:
            self._drop_oldest()

    def end_turn(self) -> None:
        """Measures what has become old enough, now that its caller has the answer."""
        while self._num_unmeasured > NUM_ALWAYS_KEPT:
            ripe = self._entries[-self._num_unmeasured]
            self._num_unmeasured -= 1
            self._num_bytes -= ripe.num_bytes
            ripe.num_bytes = self._measure(ripe, Reach(count_leaves=False))
            self._num_bytes += ripe.num_bytes
            if self._num_bytes > self._limit_bytes:
                self._make_room()

    def drop_what_reaches(self, leaves: Iterable[torch.Tensor]) -> None:
        """Drops the values whose graphs lead to one of the leaves, and so keep it in memory."""
        wanted = {id(leaf) for leaf in leaves}
        for entry in self._entries:
            for handle in entry.handles:
                reach = Reach(count_leaves=False)
                reach.follow(self._tensors(handle))
                if not wanted.isdisjoint(reach.leaves):
                    self._values.pop(handle, None)

    def handles(self) -> list[tuple[int, ...]]:
        """Returns the handles of each call that left something behind, oldest first."""
        return [entry.handles for entry in self._entries]

    def clear(self) -> None:
        """Forgets everything, without dropping the values."""
        self._entries.clear()
        self._num_handles = self._num_bytes = self._num_unmeasured = 0

    def _make_room(self) -> None:
        """Drops the oldest until they take half of what they may, so that this is seldom done."""
        reach = Reach(count_leaves=False)
        for entry in reversed(self._entries):
            # Newest first: what two of them share counts for the newer one, which goes last.
            entry.num_bytes = self._measure(entry, reach)
        self._num_bytes = sum(entry.num_bytes for entry in self._entries)
        droppable = sum(1 for _ in islice(self._entries, NUM_ALWAYS_KEPT, None))
        while droppable and self._num_bytes > self._limit_bytes // 2:
            self._drop_oldest()
            droppable -= 1

    def _drop_oldest(self) -> None:
        entry = self._entries.popleft()
        self._num_unmeasured = min(self._num_unmeasured, len(self._entries))
        self._num_handles -= len(entry.handles)
        self._num_bytes -= entry.num_bytes
        for handle in entry.handles:
            self._values.pop(handle, None)

    def _measure(self, entry: _Entry, reach: Reach) -> int:
        before = reach.num_bytes
        for handle in entry.handles:
            reach.follow(self._tensors(handle))
        return reach.num_bytes - before

    def _tensors(self, handle: int) -> Iterator[torch.Tensor]:
        return tensors_in([self._values.get(handle)])
