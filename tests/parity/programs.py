"""What several parity scripts use."""

from collections.abc import Callable
from typing import Any


def net(torch: Any) -> Any:
    """Returns a small net of three inputs and two outputs."""
    nn = torch.nn
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def attempt(function: Callable[[], Any]) -> None:
    """Prints what a function returns, or the class and text of what it raises."""
    try:
        print(function())
    except Exception as error:  # noqa: BLE001  # what it is, is the question
        kind = next(k for k in type(error).__mro__ if k.__module__ == "builtins")
        # gradwire adds where the operation was recorded, its signature, and the closest names.
        print(kind.__name__, str(error).splitlines()[0].partition("; did you mean")[0])
