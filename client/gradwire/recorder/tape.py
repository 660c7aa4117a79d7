"""The tape: operations recorded and not yet sent."""

from collections import OrderedDict
from types import CodeType

from gradwire.recorder.keys import OperationKey
from gradwire.recorder.slots import Slot

Location = tuple[CodeType, int]
"""Where an operation was recorded: a frame's code and `f_lasti`; resolved to a line on demand."""

ProgramKey = tuple[int, tuple[OperationKey, ...]]
"""A program: how many inputs it takes, and its operations."""

MAX_PROGRAMS = 256
"""How many programs a session keeps on the server; the least recently used ones go first."""


class Numbers(dict[int, int]):
    """Numbers of handles, from 0, in the order in which they are first asked for."""

    def __missing__(self, handle: int) -> int:
        self[handle] = number = len(self)
        return number


class Tape:
    """Operations in the order they were recorded.

    Attributes:
        operations: Their keys.
        slots: Their results.
        locations: Where they were recorded.
        inputs: The handles that they use, each with its input number.
        num_contexts: How many of the session's contexts were entered on this tape.
    """

    __slots__ = ("inputs", "locations", "num_contexts", "operations", "slots")

    def __init__(self) -> None:
        self.operations: list[OperationKey] = []
        self.slots: list[Slot] = []
        self.locations: list[Location] = []
        self.inputs = Numbers()
        self.num_contexts = 0


class ProgramCache:
    """The programs that the server holds; the least recently used go first."""

    def __init__(self) -> None:
        self._handles: OrderedDict[ProgramKey, int] = OrderedDict()

    def get(self, key: ProgramKey) -> int | None:
        """Returns the handle of a program, or None if the server does not hold it."""
        handle = self._handles.get(key)
        if handle is not None:
            self._handles.move_to_end(key)
        return handle

    def add(self, key: ProgramKey, handle: int) -> int | None:
        """Remembers a program; returns the handle of one that is to be released for it."""
        self._handles[key] = handle
        if len(self._handles) <= MAX_PROGRAMS:
            return None
        return self._handles.popitem(last=False)[1]

    def discard(self, handles: set[int]) -> None:
        """Forgets programs that never reached the server."""
        for key in [key for key, handle in self._handles.items() if handle in handles]:
            del self._handles[key]
