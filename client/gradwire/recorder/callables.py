"""The functions of the script that a session may ask for, by number."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class _Entry(NamedTuple):
    function: Callable[..., Any]
    in_backward: bool


class Callables:
    """Functions by number. A number that is free again is used again, so programs stay the same.

    Attributes:
        num_in_backward: How many of them a backward may call.
    """

    def __init__(self) -> None:
        self.num_in_backward = 0
        self._entries: dict[int, _Entry] = {}
        self._free: list[int] = []

    def add(self, function: Callable[..., Any], *, in_backward: bool) -> int:
        """Takes a function in; returns its number."""
        number = self._free.pop() if self._free else len(self._entries)
        self._entries[number] = _Entry(function, in_backward)
        self.num_in_backward += in_backward
        return number

    def get(self, number: int) -> Callable[..., Any]:
        """Returns the function of a number."""
        return self._entries[number].function

    def discard(self, numbers: Iterable[int]) -> None:
        """Forgets functions that nobody will ask for any more."""
        for number in numbers:
            self.num_in_backward -= self._entries.pop(number).in_backward
            self._free.append(number)
