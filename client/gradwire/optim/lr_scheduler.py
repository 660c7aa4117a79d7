"""``torch.optim.lr_scheduler`` on the server."""

from typing import Any

from gradwire.calls import RemoteObject
from gradwire.optim.optimizer import Optimizer
from gradwire.v1.catalog import SCHEDULERS

_PREFIX = "torch.optim.lr_scheduler."

__all__ = [  # noqa: PLE0604
    "LRScheduler",
    *(name.removeprefix(_PREFIX) for name in SCHEDULERS if name.startswith(_PREFIX)),
]


class LRScheduler:
    """Base of all schedulers: each changes the learning rates of an optimizer.

    Args:
        optimizer: The optimizer.
        args: What torch's class takes after it.
        kwargs: The same by name.

    Attributes:
        optimizer: The optimizer.
    """

    _catalog_name = ""

    def __init__(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        self.optimizer = optimizer
        session = optimizer.__gradwire_remote__()._slot.session
        self._remote = RemoteObject(session.record(self._catalog_name, (optimizer, *args), kwargs))

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the scheduler on the server."""
        return self._remote

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Goes on by one step; `ReduceLROnPlateau` takes the metric."""
        self._remote._slot.session.record(
            "torch.optim.lr_scheduler.LRScheduler.step",
            (self._remote, *args),
            kwargs,
            wanted=False,
        )

    def state_dict(self) -> RemoteObject:
        """Returns the state, which stays on the server; `load_state_dict` takes it."""
        slot = self._remote._slot.session.record(
            f"{_PREFIX}LRScheduler.state_dict", (self._remote,), {}
        )
        return RemoteObject(slot)

    def load_state_dict(self, state_dict: RemoteObject) -> None:
        """Takes over the state of a scheduler of the same class."""
        self._remote._slot.session.record(
            f"{_PREFIX}LRScheduler.load_state_dict", (self._remote, state_dict), {}, wanted=False
        )

    def get_last_lr(self) -> list[float]:
        """Returns the learning rate of each parameter group."""
        rates: list[float] = self._remote._slot.session.fetch(
            "torch.optim.lr_scheduler.LRScheduler.get_last_lr", (self._remote,), {}
        )
        return rates


def __getattr__(name: str) -> Any:
    full = _PREFIX + name
    if full not in SCHEDULERS:
        raise AttributeError(f"module 'gradwire.optim.lr_scheduler' has no attribute {name!r}")
    made = type(
        name,
        (LRScheduler,),
        {
            "_catalog_name": full,
            "__module__": "gradwire.optim.lr_scheduler",
            "__doc__": f"``{full}`` on the server; see torch's documentation of it.",
        },
    )
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
