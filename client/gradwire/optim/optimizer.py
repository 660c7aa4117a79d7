"""Optimizers: they live on the server, beside the parameters that they change."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from gradwire.calls import RemoteObject, session_of
from gradwire.grad_mode import enable_grad
from gradwire.session import Session
from gradwire.tensors import Tensor

EVALUATES_CLOSURE = frozenset({"torch.optim.LBFGS"})
"""Optimizers that call the closure several times in the midst of a step."""


class ParameterGroup(MutableMapping[str, Any]):
    """Parameters that share options; reading an option asks the server, writing one tells it."""

    def __init__(self, optimizer: "Optimizer", index: int, parameters: list[Tensor]) -> None:
        self._optimizer = optimizer
        self._index = index
        self._parameters = parameters

    def _options(self) -> dict[str, Any]:
        remote = self._optimizer.__gradwire_remote__()
        groups: list[dict[str, Any]] = remote._slot.session.fetch("gradwire.options", (remote,), {})
        return groups[self._index]

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self._parameters
        return self._options()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        remote = self._optimizer.__gradwire_remote__()
        remote._slot.session.record(
            "gradwire.set_option", (remote, self._index, name, value), {}, wanted=False
        )

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"options of a parameter group can't be removed: {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self._options()])

    def __len__(self) -> int:
        return 1 + len(self._options())

    def __repr__(self) -> str:
        return repr({"params": self._parameters, **self._options()})


class Optimizer:
    """Base of all optimizers of torch.

    Args:
        params: The parameters; or a list of dictionaries, each with ``params`` and options.
        kwargs: Options such as ``lr``.

    Attributes:
        param_groups: The parameter groups; ``param_groups[0]["lr"] = 0.1`` changes an option.
    """

    _catalog_name = ""

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or "
                f"dicts, but got {type(params).__name__}"
            )
        sent, groups = _groups(params)
        session = session_of((groups,), {})
        self._remote = RemoteObject(session.record(self._catalog_name, (sent, *args), kwargs))
        self.param_groups = [
            ParameterGroup(self, index, tensors) for index, tensors in enumerate(groups)
        ]

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the optimizer on the server."""
        return self._remote

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of all parameters."""
        kwargs = {} if set_to_none else {"set_to_none": False}
        self._remote._slot.session.record(
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
        session = self._remote._slot.session
        if closure is not None and self._catalog_name in EVALUATES_CLOSURE:
            return self._step_with(closure, session)
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        session.record("torch.optim.Optimizer.step", (self._remote,), {}, wanted=False)
        session.cut()
        return loss

    def _step_with(self, closure: Callable[[], Any], session: Session) -> Any:
        wanted = session.fetch("gradwire.begin_step", (self._remote,), {})
        losses = []
        while wanted:
            with enable_grad():
                losses.append(closure())
            wanted = session.fetch("gradwire.resume_step", (self._remote, losses[-1]), {})
        return losses[0] if losses else None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own."""
        (sent,), (tensors,) = _groups([param_group])
        self._remote._slot.session.record(
            "torch.optim.Optimizer.add_param_group", (self._remote, sent), {}, wanted=False
        )
        self.param_groups.append(ParameterGroup(self, len(self.param_groups), tensors))

    def state_dict(self) -> RemoteObject:
        """Returns the state, which stays on the server; `load_state_dict` takes it."""
        slot = self._remote._slot.session.record(
            "torch.optim.Optimizer.state_dict", (self._remote,), {}
        )
        return RemoteObject(slot)

    def load_state_dict(self, state_dict: RemoteObject) -> None:
        """Takes over the state of an optimizer of as many parameters."""
        self._remote._slot.session.record(
            "torch.optim.Optimizer.load_state_dict", (self._remote, state_dict), {}, wanted=False
        )

    def __repr__(self) -> str:
        return repr(self._remote)


def _groups(params: Iterable[Any]) -> tuple[list[Any], list[list[Tensor]]]:
    """Returns what to send for `params`, and the tensors of each group."""
    entries = list(params)
    if not any(isinstance(entry, dict) for entry in entries):
        return entries, [_tensors(entries)]
    sent = [{**entry, "params": _members(entry)} for entry in entries]
    return sent, [_tensors(group["params"]) for group in sent]


def _members(group: dict[str, Any]) -> list[Any]:
    members = group["params"]
    return [members] if isinstance(members, Tensor) else list(members)


def _tensors(members: list[Any]) -> list[Tensor]:
    """Returns the tensors of a group, whose members may be (name, tensor) pairs."""
    return [member[1] if isinstance(member, tuple) else member for member in members]
