"""Optimizers of torch: they live on the server, beside the parameters that they change."""

from collections.abc import Callable, Iterator, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gradwire.callbacks import Callback, run
from gradwire.calls import RemoteObject, session_of
from gradwire.grad_mode import enable_grad
from gradwire.objects import restorable
from gradwire.optim.optimizer import Optimizer, groups_of, normalized_group
from gradwire.optim.packing import fetch_structure, pack, unpack_pairs
from gradwire.tensors import Tensor
from gradwire.v1.catalog import OPTIMIZERS

if TYPE_CHECKING:
    from gradwire.session import Session

EVALUATES_CLOSURE = frozenset({"torch.optim.LBFGS"})
"""Optimizers that call the closure several times in the midst of a step."""


@restorable
class ParameterGroup(MutableMapping[str, Any], dict[str, Any]):  # type: ignore[misc, metaclass]
    """Parameters that share options; reading an option asks the server, writing one tells it."""

    def __init__(self, optimizer: "BuiltinOptimizer", index: int, parameters: list[Tensor]) -> None:
        self._optimizer = optimizer
        self._index = index
        self._parameters = parameters

    def _options(self) -> dict[str, Any]:
        remote = self._optimizer.__gradwire_remote__()
        slot = remote._slot.session.record("gradwire.options", (remote,), {})
        options: dict[str, Any] = fetch_structure(RemoteObject(slot))[self._index]
        return options

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self._parameters
        return self._options()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        remote = self._optimizer.__gradwire_remote__()
        session = remote._slot.session
        session.record("gradwire.set_option", (remote, self._index, name, value), {}, wanted=False)
        # The value is part of what was recorded: the steps after it remain the same program.
        session.cut()

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"options of a parameter group can't be removed: {name!r}")

    def __contains__(self, name: object) -> bool:
        return name == "params" or name in self._options()

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self._options()])

    def __len__(self) -> int:
        return 1 + len(self._options())

    def items(self) -> Any:
        """Returns options and their values."""
        return {"params": self._parameters, **self._options()}.items()

    def values(self) -> Any:
        """Returns the values of all options."""
        return {"params": self._parameters, **self._options()}.values()

    def copy(self) -> dict[str, Any]:
        """Returns a plain dictionary of the options as they are now."""
        return dict(self.items())

    def __repr__(self) -> str:
        return repr(self.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return self.copy()


class BuiltinOptimizer(Optimizer):
    """Base of all optimizers of torch.

    Args:
        params: The parameters; or a list of dictionaries, each with ``params`` and options.
        args: What torch's class takes after them.
        kwargs: The same by name, such as ``lr``.

    Attributes:
        param_groups: The parameter groups; ``param_groups[0]["lr"] = 0.1`` changes an option.
    """

    _catalog_name = ""

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._set_up_hooks()
        groups = [normalized_group(group) for group in groups_of(params)]
        session = session_of(([group["params"] for group in groups],), {})
        sent = [_sent(group) for group in groups]
        first = sent[0]["params"] if len(sent) == 1 and len(sent[0]) == 1 else sent
        self._remote = RemoteObject(session.record(self._catalog_name, (first, *args), kwargs))
        self.param_groups = [
            ParameterGroup(self, index, group["params"]) for index, group in enumerate(groups)
        ]

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the optimizer on the server."""
        return self._remote

    @property
    def _session(self) -> "Session":
        return self._remote._slot.session

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The options of groups that do not give them."""
        slot = self._session.record("gradwire.getattr", (self._remote, "defaults"), {})
        options: dict[str, Any] = fetch_structure(RemoteObject(slot))
        return options

    @property
    def state(self) -> dict[Tensor, Any]:
        """What the optimizer keeps for each parameter at present, such as moments; to be read."""
        parameters = [tensor for group in self.param_groups for tensor in group["params"]]
        return {
            parameters[number]: MappingProxyType(entries)
            for number, entries in self._pack_state()["state"].items()
        }

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of all parameters."""
        kwargs = {} if set_to_none else {"set_to_none": False}
        self._session.record(
            "torch.optim.Optimizer.zero_grad", (self._remote,), kwargs, wanted=False
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step.

        Args:
            closure: Clears the gradients, computes the loss, calls ``backward`` and returns the
                loss. LBFGS needs one and calls it several times.

        Returns:
            The loss that the closure returned first; None without one.
        """
        session = self._session
        if closure is not None and self._catalog_name in EVALUATES_CLOSURE:
            args = (self._remote, Callback(session, closure))
            return run(session, "torch.optim.Optimizer.step", args, {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        session.record("torch.optim.Optimizer.step", (self._remote,), {}, wanted=False)
        session.cut()
        return loss

    def __repr__(self) -> str:
        return repr(self._remote)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own."""
        group = normalized_group(param_group)
        self._session.record(
            "torch.optim.Optimizer.add_param_group", (self._remote, _sent(group)), {}, wanted=False
        )
        self.param_groups.append(ParameterGroup(self, len(self.param_groups), group["params"]))

    def _pack_state(self) -> dict[str, Any]:
        slot = self._session.record("gradwire.state", (self._remote,), {})
        state: dict[str, Any] = unpack_pairs(fetch_structure(RemoteObject(slot)))
        return state

    def _unpack_state(self, state_dict: dict[str, Any]) -> None:
        self._session.record(
            "gradwire.load_state", (self._remote, pack(state_dict)), {}, wanted=False
        )


def _sent(group: dict[str, Any]) -> dict[str, Any]:
    """Returns a parameter group as torch takes it."""
    names = group.get("param_names")
    if names is None:
        return group
    options = {name: value for name, value in group.items() if name != "param_names"}
    return {**options, "params": list(zip(names, group["params"], strict=True))}


def optimizer_class(name: str) -> type[BuiltinOptimizer] | None:
    """Returns the class of a cataloged optimizer such as ``torch.optim.SGD``, or None."""
    if name not in OPTIMIZERS:
        return None
    return type(
        name.rpartition(".")[2],
        (BuiltinOptimizer,),
        {
            "_catalog_name": name,
            "__module__": "gradwire.optim",
            "__doc__": f"``{name}`` on the server; see torch's documentation of it.",
        },
    )
