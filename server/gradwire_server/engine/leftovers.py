"""The values that unary calls leave behind, and when they end.

A caller of Forward and ComputeLoss gets handles and need not release them. As a variable in a loop
is bound anew, so the oldest of these values go when newer ones come: there are never more than
:data:`MAX_HANDLES`, and never more than a quarter of what the session may hold, counting the
graphs that autograd keeps for them. What the latest calls left behind is always there.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch

from gradwire_server.engine.memory import storage_of, tensors_in

MAX_HANDLES = 1024
NUM_ALWAYS_KEPT = 2
"""How many calls are not measured and not dropped: a training loop has freed the graph of a
Forward and of a ComputeLoss, which makes measuring cheap, when the next ones come."""

_FREED = "after they have already been freed"


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
            ripe.num_bytes = self._measure(ripe, _Reach())
            self._num_bytes += ripe.num_bytes
            if self._num_bytes > self._limit_bytes:
                self._make_room()

    def drop_what_reaches(self, leaves: Iterable[torch.Tensor]) -> None:
        """Drops the values whose graphs lead to one of the leaves, and so keep it in memory."""
        wanted = {id(leaf) for leaf in leaves}
        for entry in self._entries:
            for handle in entry.handles:
                reach = _Reach()
                reach.follow(self._tensors(handle))
                if not wanted.isdisjoint(reach.leaves):
                    self._values.pop(handle, None)

    def clear(self) -> None:
        """Forgets everything, without dropping the values."""
        self._entries.clear()
        self._num_handles = self._num_bytes = self._num_unmeasured = 0

    def _make_room(self) -> None:
        """Drops the oldest until they take half of what they may, so that this is seldom done."""
        reach = _Reach()
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

    def _measure(self, entry: _Entry, reach: "_Reach") -> int:
        before = reach.num_bytes
        for handle in entry.handles:
            reach.follow(self._tensors(handle))
        return reach.num_bytes - before

    def _tensors(self, handle: int) -> Iterator[torch.Tensor]:
        return tensors_in([self._values.get(handle)])


class _Reach:
    """What values keep in memory: their own storages and those that autograd saved for them.

    Attributes:
        leaves: The leaves that the graphs lead to, by id; their storages are not counted, as
            parameters belong to the model.
        num_bytes: The bytes of all storages that were followed, each counted once.
    """

    def __init__(self) -> None:
        self.leaves: dict[int, torch.Tensor] = {}
        self.num_bytes = 0
        self._storages: set[int] = set()
        self._nodes: set[Any] = set()

    def follow(self, tensors: Iterable[torch.Tensor]) -> None:
        """Adds what these tensors keep."""
        pending: list[Any] = []
        saved: list[torch.Tensor] = []
        for tensor in tensors:
            saved.append(tensor)
            if tensor.grad_fn is not None:
                pending.append(tensor.grad_fn)
        freed = False
        while pending:
            node = pending.pop()
            if node in self._nodes:
                continue
            self._nodes.add(node)
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                self.leaves[id(leaf)] = leaf
                storage = storage_of(leaf)
                if storage is not None:
                    self._storages.add(storage.data_ptr())
            if not freed:
                freed = _collect_saved(node, saved)
            pending.extend(following for following, _ in node.next_functions if following)
        for tensor in saved:
            storage = storage_of(tensor)
            if storage is not None and storage.data_ptr() not in self._storages:
                self._storages.add(storage.data_ptr())
                self.num_bytes += storage.nbytes()


def _collect_saved(node: Any, saved: list[torch.Tensor]) -> bool:
    """Adds the tensors that a node saved; returns whether its graph was freed by a backward."""
    for name in _saved_names(node.__class__):
        try:
            value = getattr(node, name)
        except RuntimeError as error:
            if _FREED in str(error):
                return True
            # Modified in place since: autograd refuses to show it.
            continue
        saved.extend(tensors_in([value]))
    return False


@cache
def _saved_names(node_type: Hashable) -> tuple[str, ...]:
    return tuple(
        name
        for name in dir(node_type)
        if name == "saved_tensors" or (name.startswith("_saved_") and "_sym_" not in name)
    )
