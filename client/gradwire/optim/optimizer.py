"""Optimizers of the script's own: ``torch.optim.Optimizer`` in plain Python."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import copy, deepcopy
from functools import wraps
from typing import Any

from gradwire.nn.hooks import Hook, Hooks, RemovableHandle
from gradwire.objects import restorable
from gradwire.tensors import Tensor
from gradwire.types import typename

required: Any = type("_RequiredParameter", (), {"__repr__": lambda _: "<required parameter>"})()
"""In `defaults`: an option that each parameter group must give."""

_STEP_PRE = "step_pre"
_STEP_POST = "step_post"
_STATE_DICT_PRE = "state_dict_pre"
_STATE_DICT_POST = "state_dict_post"
_LOAD_STATE_DICT_PRE = "load_state_dict_pre"
_LOAD_STATE_DICT_POST = "load_state_dict_post"
_KINDS = (
    *(_STEP_PRE, _STEP_POST, _STATE_DICT_PRE, _STATE_DICT_POST),
    *(_LOAD_STATE_DICT_PRE, _LOAD_STATE_DICT_POST),
)


@restorable
class Optimizer:
    """Base of all optimizers, as in torch; a subclass defines `step`.

    Args:
        params: The parameters; or a list of dictionaries, each with ``params`` and options.
        defaults: Options for groups that do not give them.

    Attributes:
        defaults: The options of groups that do not give them.
        param_groups: The parameter groups; ``param_groups[0]["lr"] = 0.1`` changes an option.
        state: What a subclass keeps for each parameter.
    """

    defaults: dict[str, Any]
    param_groups: list[Any]
    state: Any

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self._set_up_hooks()
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        for group in groups_of(params):
            self.add_param_group(group)

    def __init_subclass__(cls) -> None:
        step = cls.__dict__.get("step")
        if step is not None:
            cls.step = _with_hooks(step)  # type: ignore[method-assign]

    def _set_up_hooks(self) -> None:
        self._hooks = {kind: Hooks() for kind in _KINDS}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own."""
        group = normalized_group(param_group)
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(
                    f"parameter group didn't specify a value of required optimization parameter "
                    f"{name}"
                )
            group.setdefault(name, default)
        known = {id(parameter) for other in self.param_groups for parameter in other["params"]}
        if any(id(parameter) in known for parameter in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of all parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.detach_().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; every subclass defines its own."""
        raise NotImplementedError

    # ---- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of each parameter, by its number, and the options of the groups."""
        for hook in self._functions(_STATE_DICT_PRE):
            hook(self)
        state = self._pack_state()
        for hook in self._functions(_STATE_DICT_POST):
            replaced = hook(self, state)
            state = state if replaced is None else replaced
        return state

    def _pack_state(self) -> dict[str, Any]:
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers.setdefault(id(parameter), len(numbers))
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [numbers[id(parameter)] for parameter in group["params"]]
            groups.append(packed)
        state = {
            numbers[id(key)] if isinstance(key, Tensor) else key: value
            for key, value in self.state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over the state of an optimizer of as many parameters in as many groups."""
        state = dict(state_dict)
        for hook in self._functions(_LOAD_STATE_DICT_PRE):
            replaced = hook(self, state)
            state = state if replaced is None else replaced
        require_same_groups(self.param_groups, state["param_groups"])
        self._unpack_state(state)
        for hook in self._functions(_LOAD_STATE_DICT_POST):
            hook(self)

    def _unpack_state(self, state_dict: dict[str, Any]) -> None:
        saved_groups = deepcopy(state_dict["param_groups"])
        parameters: dict[Any, Tensor] = {}
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            parameters.update(zip(saved["params"], group["params"], strict=True))
            saved["params"] = group["params"]
        self.param_groups = saved_groups
        self.state = defaultdict(dict)
        for key, value in state_dict["state"].items():
            parameter = parameters.get(key)
            if parameter is None:
                self.state[key] = value
            else:
                self.state[parameter] = _cast(parameter, value)

    # ---- hooks -------------------------------------------------------------------------------

    def _functions(self, kind: str) -> list[Callable[..., Any]]:
        return [hook.function for hook in self._hooks[kind].values()]

    def _register(
        self, kind: str, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        return self._hooks[kind].add(Hook(hook), prepend=prepend)

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Adds a function ``hook(optimizer, args, kwargs)`` that runs before `step`."""
        return self._register(_STEP_PRE, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Adds a function ``hook(optimizer, args, kwargs)`` that runs after `step`."""
        return self._register(_STEP_POST, hook)

    def register_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(optimizer)`` that runs before `state_dict`."""
        return self._register(_STATE_DICT_PRE, hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(optimizer, state_dict)`` that may return another state."""
        return self._register(_STATE_DICT_POST, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(optimizer, state_dict)`` that may return another state."""
        return self._register(_LOAD_STATE_DICT_PRE, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(optimizer)`` that runs after `load_state_dict`."""
        return self._register(_LOAD_STATE_DICT_POST, hook, prepend)

    # ---- printing ----------------------------------------------------------------------------

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for index, group in enumerate(self.param_groups):
            options = [f"    {name}: {group[name]}\n" for name in sorted(group) if name != "params"]
            text += f"\nParameter Group {index}\n" + "".join(options)
        return text + ")"


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a step that runs the optimizer's hooks; not again where it calls another."""

    @wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        hooks = self._hooks
        if not hooks[_STEP_PRE] and not hooks[_STEP_POST]:
            return step(self, *args, **kwargs)
        for hook in self._functions(_STEP_PRE):
            replaced = hook(self, (self, *args), kwargs)
            if replaced is not None:
                if not (isinstance(replaced, tuple) and len(replaced) == 2):
                    raise RuntimeError(
                        f"{type(self).step} must return None or a tuple of (new_args, "
                        f"new_kwargs), but got {replaced}."
                    )
                (_, *given), kwargs = replaced
                args = tuple(given)
        result = step(self, *args, **kwargs)
        for hook in self._functions(_STEP_POST):
            hook(self, (self, *args), kwargs)
        return result

    return hooked


def groups_of(params: Any) -> list[dict[str, Any]]:
    """Returns the parameter groups of an optimizer's first argument.

    Raises:
        TypeError: It is a tensor.
        ValueError: There are no parameters.
    """
    if isinstance(params, Tensor):
        raise TypeError(
            "params argument given to the optimizer should be an iterable of Tensors or dicts, "
            f"but got {typename(params)}"
        )
    entries = list(params)
    if not entries:
        raise ValueError("optimizer got an empty parameter list")
    return entries if isinstance(entries[0], dict) else [{"params": entries}]


def normalized_group(group: dict[str, Any]) -> dict[str, Any]:
    """Returns a parameter group with a list of tensors, and their names if they have any.

    Raises:
        TypeError: It is no dictionary, has its parameters in a set, or has others than tensors.
    """
    if not isinstance(group, dict):
        raise TypeError(f"param_group must be a dict, but got {type(group)}")
    given = group["params"]
    if isinstance(given, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of "
            "tensors in sets will change between runs. Please use a list instead."
        )
    members = [given] if isinstance(given, Tensor) else list(given)
    names = [member[0] for member in members if isinstance(member, tuple)]
    tensors = [member[1] if isinstance(member, tuple) else member for member in members]
    if names and len(names) != len(tensors):
        raise ValueError(
            "all optimizer params should be with/without names. Some param names are missing"
        )
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"optimizer can only optimize Tensors, but one of the params is {typename(tensor)}"
            )
    normalized = {**group, "params": tensors}
    return {**normalized, "param_names": names} if names else normalized


def require_same_groups(groups: Iterable[Any], saved: Iterable[Any]) -> None:
    """Raises if saved groups are not as many, or not of as many parameters."""
    sizes = [len(group["params"]) for group in groups]
    saved_sizes = [len(group["params"]) for group in saved]
    if len(sizes) != len(saved_sizes):
        raise ValueError("loaded state dict has a different number of parameter groups")
    if sizes != saved_sizes:
        raise ValueError(
            "loaded state dict contains a parameter group that doesn't match the size of "
            "optimizer's group"
        )


def _cast(parameter: Tensor, value: Any, name: str = "") -> Any:
    """Returns state in the type and on the device of its parameter."""
    if isinstance(value, Tensor):
        if name == "step":
            return value
        element = parameter.dtype if parameter.is_floating_point() else value.dtype
        return value.to(dtype=element, device=parameter.device)
    if isinstance(value, dict):
        return {key: _cast(parameter, entry, key) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cast(parameter, entry) for entry in value)
    return copy(value)
