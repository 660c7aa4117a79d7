"""Schedulers of learning rates: torch's own on the server, and a base for the script's."""

from collections.abc import Iterable, Mapping
from typing import Any

from gradwire.callbacks import Callback, run
from gradwire.calls import RemoteObject
from gradwire.objects import restorable
from gradwire.optim.builtin import BuiltinOptimizer
from gradwire.optim.optimizer import Optimizer
from gradwire.optim.packing import fetch_structure, pack, unpack_pairs
from gradwire.tensors import Tensor
from gradwire.v1.catalog import SCHEDULERS

_PREFIX = "torch.optim.lr_scheduler."


@restorable
class LRScheduler:
    """Base of all schedulers: each changes the learning rates of an optimizer.

    A scheduler of the script's own defines `get_lr`.

    Args:
        optimizer: The optimizer.
        last_epoch: How many steps were taken before; -1 for none.

    Attributes:
        optimizer: The optimizer.
        base_lrs: The learning rate that each parameter group began with.
        last_epoch: How many steps were taken.
    """

    optimizer: Any
    base_lrs: list[Any]
    last_epoch: int

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{index}] when resuming "
                    "scheduler with last_epoch >= 0."
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self.step()

    def get_lr(self) -> list[Any]:
        """Returns the learning rate of each parameter group at `last_epoch`."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Goes on by one step, or to an epoch."""
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        rates = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = list(rates)

    def get_last_lr(self) -> list[Any]:
        """Returns the learning rate of each parameter group."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Returns everything but the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over the state of a scheduler of the same class."""
        self.__dict__.update(state_dict)


@restorable
class Functions(list[int]):
    """The functions of the script that a scheduler calls, by the numbers that the session has."""

    __gradwire_transient__ = True


class BuiltinScheduler(LRScheduler):
    """Base of torch's schedulers.

    Args:
        optimizer: The optimizer.
        args: What torch's class takes after it; functions run in the script.
        kwargs: The same by name.
    """

    _catalog_name = ""

    def __init_subclass__(cls) -> None:
        overridden = {"get_lr", "step", "_get_closed_form_lr"} & cls.__dict__.keys()
        if overridden and not cls.__dict__.get("_catalog_name"):
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(sorted(overridden))}, but its base runs on "
                "the server; derive from LRScheduler, or use LambdaLR"
            )

    def __init__(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        state = self.__dict__
        state["optimizer"] = optimizer
        state["_options"] = _Options(optimizer)
        session = state["_options"].remote._slot.session
        sent = [_sendable(session, value) for value in args]
        named = {name: _sendable(session, value) for name, value in kwargs.items()}
        parts = [part for value in (*sent, *named.values()) for part in _flat(value)]
        state["_functions"] = _functions_in(parts)
        state["_remote"] = None
        with state["_options"]:
            arguments = (state["_options"].remote, *sent)
            if state["_functions"]:
                state["_remote"] = run(session, self._catalog_name, arguments, named)
            else:
                slot = session.record(self._catalog_name, arguments, named)
                state["_remote"] = RemoteObject(slot)

    def __gradwire_functions__(self) -> Functions:
        """Returns the functions of the script that it calls."""
        functions: Functions = self.__dict__["_functions"]
        return functions

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the scheduler on the server."""
        remote: RemoteObject = self.__dict__["_remote"]
        return remote

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Goes on by one step; `ReduceLROnPlateau` takes the metric."""
        remote = self.__gradwire_remote__()
        session = remote._slot.session
        with self.__dict__["_options"]:
            name, arguments = f"{_PREFIX}LRScheduler.step", (remote, *args)
            if self.__dict__["_functions"]:
                run(session, name, arguments, kwargs)
            else:
                session.record(name, arguments, kwargs, wanted=False)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything but the optimizer; functions are None."""
        remote = self.__gradwire_remote__()
        slot = remote._slot.session.record("gradwire.state", (remote,), {})
        state: dict[str, Any] = unpack_pairs(fetch_structure(RemoteObject(slot)))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over the state of a scheduler of the same class."""
        remote = self.__gradwire_remote__()
        session = remote._slot.session
        state = pack(dict(state_dict))
        session.record("gradwire.load_state", (remote, state), {}, wanted=False)

    def get_last_lr(self) -> list[Any]:
        """Returns the learning rate of each parameter group."""
        remote = self.__gradwire_remote__()
        name = f"{_PREFIX}LRScheduler.get_last_lr"
        rates: list[Any] = fetch_structure(
            RemoteObject(remote._slot.session.record(name, (remote,), {}))
        )
        return rates

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__.get("_remote") is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name.startswith("_"):
            state = self.state_dict()
            if name not in state:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return state[name]
        remote = self.__gradwire_remote__()
        slot = remote._slot.session.record("gradwire.getattr", (remote, name), {})
        return fetch_structure(RemoteObject(slot))

    def __setattr__(self, name: str, value: Any) -> None:
        remote = self.__gradwire_remote__()
        args = (remote, name, value)
        remote._slot.session.record("gradwire.setattr", args, {}, wanted=False)

    def __repr__(self) -> str:
        return f"<torch.optim.lr_scheduler.{type(self).__name__} object at {id(self):#x}>"


@restorable
class _Options:
    """The parameter groups that a scheduler changes: of torch's optimizer, or of the script's.

    The script's own optimizers are unknown to the server. What their schedulers change there is an
    optimizer without parameters, whose options are copied from the script and back.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._own: Optimizer | None = None
        if isinstance(optimizer, BuiltinOptimizer):
            self.remote = optimizer.__gradwire_remote__()
            return
        self._own = optimizer
        first = optimizer.param_groups[0]["params"][0]
        groups = [_plain(group) for group in optimizer.param_groups]
        slot = first._slot.session.record("gradwire.option_groups", (groups,), {})
        self.remote = RemoteObject(slot)

    def __enter__(self) -> None:
        if self._own is None:
            return
        session = self.remote._slot.session
        for index, group in enumerate(self._own.param_groups):
            for name, value in _plain(group).items():
                args = (self.remote, index, name, value)
                session.record("gradwire.set_option", args, {}, wanted=False)

    def __exit__(self, *_: object) -> None:
        if self._own is None:
            return
        slot = self.remote._slot.session.record("gradwire.options", (self.remote,), {})
        options = fetch_structure(RemoteObject(slot))
        for group, changed in zip(self._own.param_groups, options, strict=True):
            group.update(changed)


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a group that a scheduler may know."""
    return {
        name: value
        for name, value in group.items()
        if value is None or isinstance(value, bool | int | float | str | tuple)
    }


def _functions_in(parts: Iterable[Any]) -> Functions:
    """Returns the functions among the arguments of a scheduler, and of schedulers among them."""
    numbers = Functions()
    for part in parts:
        if isinstance(part, Callback):
            numbers.append(part.number)
        elif isinstance(part, BuiltinScheduler):
            numbers += part.__dict__["_functions"]
    return numbers


def _sendable(session: Any, value: Any) -> Any:
    """Returns an argument with stand-ins in place of functions."""
    if isinstance(value, list | tuple):
        return type(value)(_sendable(session, element) for element in value)
    if callable(value) and not hasattr(value, "__gradwire_remote__"):
        return Callback(session, value)
    return value


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [part for element in value for part in _flat(element)]
    return [value]


def _chained_optimizer(schedulers: Any) -> Any:
    first = next(iter(schedulers), None)
    if first is None:
        raise ValueError(
            "ChainedScheduler expects at least one scheduler to be chained, but got no scheduler."
        )
    return first.optimizer


class ChainedScheduler(BuiltinScheduler):
    """Several schedulers of one optimizer, each of which changes what the one before returned.

    Args:
        schedulers: The schedulers.
        optimizer: The optimizer; that of the schedulers by default.
    """

    _catalog_name = f"{_PREFIX}ChainedScheduler"

    def __init__(self, schedulers: Any, optimizer: Optimizer | None = None) -> None:
        chained = list(schedulers)
        self.__dict__["optimizer"] = optimizer or _chained_optimizer(chained)
        self.__dict__["_options"] = options = _Options(self.optimizer)
        self.__dict__["_functions"] = _functions_in(chained)
        session = options.remote._slot.session
        args = (chained,) if optimizer is None else (chained, options.remote)
        self.__dict__["_remote"] = RemoteObject(session.record(self._catalog_name, args, {}))


def scheduler_class(full: str) -> type[BuiltinScheduler] | None:
    """Returns the class of a cataloged scheduler such as StepLR's full name, or None."""
    if full not in SCHEDULERS:
        return None
    namespace, _, name = full.rpartition(".")
    return type(
        name,
        (BuiltinScheduler,),
        {
            "_catalog_name": full,
            "__module__": "gradwire" + namespace.removeprefix("torch"),
            "__doc__": f"``{full}`` on the server; see torch's documentation of it.",
        },
    )


for _kind in (LRScheduler, ChainedScheduler):
    _kind.__module__ = "gradwire.optim.lr_scheduler"
