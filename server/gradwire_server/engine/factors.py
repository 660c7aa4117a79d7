"""Functions of the client in schedules, as tables: a run steps its schedule without the client."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import invalid


class Context(Protocol):
    """What a table of a snapshot needs to be made again."""

    def own_callback(self, number: int) -> Callback | None:
        """Returns the stand-in for a function, if the client that has it goes on."""
        ...


@register
class Factors:
    """What a function of the client returns for the numbers from 0 on.

    Args:
        factors: The results.
        failures: For which numbers it failed instead, and how.
        callback: What else stands for the function, if the client has it.
    """

    def __init__(
        self, factors: Sequence[float], failures: dict[int, str], callback: Callback | None
    ) -> None:
        self._factors = list(factors)
        self._failures = failures
        self.callback = callback

    def __call__(self, number: int) -> float:
        """Returns the result for a number.

        Raises:
            RuntimeError: The function failed for it.
            IndexError: It is beyond the table.
        """
        if number in self._failures:
            raise RuntimeError(f"the function of the schedule failed: {self._failures[number]}")
        if not 0 <= number < len(self._factors):
            raise IndexError(
                f"the schedule is known for the numbers from 0 to {len(self._factors) - 1}, which "
                f"were to be enough for its run, and was asked for {number}"
            )
        return self._factors[number]

    def __getstate__(self) -> dict[str, Any]:
        return {
            "factors": self._factors,
            "failures": self._failures,
            "number": None if self.callback is None else self.callback.number,
        }

    @staticmethod
    def rebuild_state(state: dict[str, Any], context: Context) -> "Factors":
        """Returns the table of a snapshot; the client may have the function still."""
        number = state["number"]
        callback = None if number is None else context.own_callback(number)
        return Factors(state["factors"], state["failures"], callback)


def factors_of(value: Any, path: str) -> Any:
    """Returns a table of numbers, or one for each parameter group.

    Raises:
        GradwireError: It is none.
    """
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, list) and value and all(isinstance(part, list) for part in value):
        return [factors_of(part, f"{path}[{index}]") for index, part in enumerate(value)]
    numbers = isinstance(value, list) and all(isinstance(part, int | float) for part in value)
    if not (numbers and value):
        raise invalid(path, "is not a list of the factors for 0, 1, 2 and so on")
    return Factors([float(number) for number in value], {}, None)


def put_tables(scheduler: Any, tables: Sequence[runs_pb2.FactorTable]) -> None:
    """Puts tables in place of the functions of the client that a scheduler calls.

    Raises:
        GradwireError: There is none for one of them.
    """
    given = {table.callback: table for table in tables}
    places = list(_places(scheduler, Callback))
    for place in places:
        if place.value.number not in given:
            raise invalid(
                "scheduler.tables",
                f"{type(place.owner).__name__} calls a function of the program, which a run goes "
                "on without; give a table of its results, or take a scheduler that needs none, "
                "such as CosineAnnealingLR",
            )
    for place in places:
        table = given[place.value.number]
        place.put(Factors(table.factors, dict(table.failures), place.value))


def put_back(scheduler: Any) -> None:
    """Puts the functions of the client back that tables stood for."""
    for place in list(_places(scheduler, Factors)):
        if place.value.callback is not None:
            place.put(place.value.callback)


class _Place:
    """Where a scheduler holds a value: an attribute, or an element of a list."""

    def __init__(self, owner: Any, value: Any, put: Callable[[Any], None]) -> None:
        self.owner = owner
        self.value = value
        self.put = put


def _places(scheduler: Any, kind: type) -> Iterator[_Place]:
    """Yields where a scheduler, and those that it consists of, hold values of a class."""
    for name, held in vars(scheduler).items():
        if isinstance(held, list):
            for index, value in enumerate(held):
                if isinstance(value, kind):
                    yield _Place(scheduler, value, partial(held.__setitem__, index))
                elif isinstance(value, torch.optim.lr_scheduler.LRScheduler):
                    yield from _places(value, kind)
        elif isinstance(held, kind):
            yield _Place(scheduler, held, partial(setattr, scheduler, name))
