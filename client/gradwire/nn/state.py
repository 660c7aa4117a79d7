"""State dicts of modules: what they hold by dotted path, and loading it again."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gradwire.grad_mode import no_grad
from gradwire.nn.hooks import (
    LOAD_STATE_DICT_POST,
    LOAD_STATE_DICT_PRE,
    STATE_DICT,
    STATE_DICT_PRE,
    Hook,
    RemovableHandle,
)
from gradwire.nn.parameter import Parameter
from gradwire.tensors import Tensor

if TYPE_CHECKING:
    from gradwire.nn.module import Module

_EXTRA_STATE = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found to differ.

    Attributes:
        missing_keys: Names of the module that the state lacks.
        unexpected_keys: Names of the state that the module lacks.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class StateDict(OrderedDict[str, Any]):
    """Tensors by dotted path, and the version of each module's part of them."""

    _metadata: dict[str, dict[str, Any]]


StateDict.__name__ = StateDict.__qualname__ = "OrderedDict"


class Stateful:
    """The part of a module that saves and loads its state."""

    _version: int = 1
    _parameters: dict[str, Tensor | None]
    _buffers: dict[str, Tensor | None]
    _modules: "dict[str, Module | None]"
    _non_persistent_buffers_set: set[str]

    # ---- saving ------------------------------------------------------------------------------

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """Returns parameters and persistent buffers by dotted path, in an ``OrderedDict``.

        Args:
            args: The same as the keywords, in order; torch's old way to pass them.
            destination: What to add them to.
            prefix: What all names begin with.
            keep_vars: Whether the tensors stay attached to autograd.
        """
        for name, value in zip(("destination", "prefix", "keep_vars"), args, strict=False):
            destination = value if name == "destination" else destination
            prefix = value if name == "prefix" else prefix
            keep_vars = value if name == "keep_vars" else keep_vars
        if destination is None:
            destination = StateDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._hooks(STATE_DICT_PRE):
            hook.function(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in self._hooks(STATE_DICT):
            replaced = hook.function(self, destination, prefix, metadata)
            if not hook.with_kwargs:
                destination = destination if replaced is None else replaced
            elif replaced is not None:
                raise RuntimeError("state_dict post-hook must return None")
        return destination

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for name, member in self._persistent_members():
            if member is not None:
                destination[prefix + name] = member if keep_vars else member.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + _EXTRA_STATE] = self.get_extra_state()

    def _persistent_members(self) -> Iterator[tuple[str, Tensor | None]]:
        yield from self._parameters.items()
        for name, buffer in self._buffers.items():
            if name not in self._non_persistent_buffers_set:
                yield name, buffer

    def get_extra_state(self) -> Any:
        """Returns what a subclass wants to keep in its state besides tensors."""
        raise RuntimeError(
            "Reached a code path in Module.get_extra_state() that should never be called."
        )

    def set_extra_state(self, state: Any) -> None:  # noqa: ARG002
        """Takes back what `get_extra_state` returned."""
        raise RuntimeError(
            "Reached a code path in Module.set_extra_state() that should never be called."
        )

    # ---- loading -----------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies tensors into parameters and buffers of the same names.

        Args:
            state_dict: Tensors by dotted path.
            strict: Whether the names must be the same ones.
            assign: Whether the tensors themselves take the place of the module's.

        Raises:
            RuntimeError: Names or shapes differ; what fits was copied.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None) or {}
        state = StateDict(state_dict)
        state._metadata = metadata
        loading = _Loading(metadata, assign)
        loading.load(self, state, "")
        return loading.finish(type(self).__name__, strict)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads what the module itself owns; the lists take what is wrong."""
        for hook in self._hooks(LOAD_STATE_DICT_PRE):
            arguments = (
                *(state_dict, prefix, local_metadata, strict),
                *(missing_keys, unexpected_keys, error_msgs),
            )
            hook.function(*((self, *arguments) if hook.with_module else arguments))
        members = {name: m for name, m in self._persistent_members() if m is not None}
        for name, member in members.items():
            key = prefix + name
            if key in state_dict:
                assign = local_metadata.get("assign_to_params_buffers", False)
                problem = self._load_member(name, member, key, state_dict[key], assign)
                if problem is not None:
                    error_msgs.append(problem)
            elif strict:
                missing_keys.append(key)
        self._load_extra_state(state_dict, prefix, strict, missing_keys, unexpected_keys)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != prefix + _EXTRA_STATE:
                    first, *rest = key[len(prefix) :].split(".", 1)
                    if first not in (self._modules if rest else members):
                        unexpected_keys.append(key)

    def _load_member(
        self, name: str, member: Tensor, key: str, value: Any, assign: bool
    ) -> str | None:
        """Copies a value into a member, or puts it in its place; returns what is wrong with it."""
        if not hasattr(value, "shape"):
            return (
                f'While copying the parameter named "{key}", expected torch.Tensor or '
                f"Tensor-like object from checkpoint but received {type(value)}"
            )
        if tuple(value.shape) != tuple(member.shape):
            if member.dim() == 0 and tuple(value.shape) == (1,):
                value = value[0]
            elif not member._is_lazy():
                return (
                    f"size mismatch for {key}: copying a param with shape {value.shape} from "
                    f"checkpoint, the shape in current model is {member.shape}."
                )
        if assign:
            if isinstance(member, Parameter):
                requires_grad = member.requires_grad
                if isinstance(value, Parameter):
                    value.requires_grad_(requires_grad)
                else:
                    value = Parameter(value, requires_grad=requires_grad)
            setattr(self, name, value)
            return None
        with no_grad():
            member._materialize_as(value)
            member.copy_(value)
        return None

    def _load_extra_state(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
    ) -> None:
        key = prefix + _EXTRA_STATE
        if type(self).set_extra_state is not Stateful.set_extra_state:
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        elif strict and key in state_dict:
            unexpected_keys.append(key)

    # ---- hooks -------------------------------------------------------------------------------

    def _hooks(self, kind: str) -> list[Hook]:
        return list(self.__dict__[kind].values())

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Adds a function ``hook(module, prefix, keep_vars)`` that runs before `state_dict`."""
        return self.__dict__[STATE_DICT_PRE].add(Hook(hook))  # type: ignore[no-any-return]

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Adds a function ``hook(module, state_dict, prefix, metadata)``; it changes the dict."""
        return self.__dict__[STATE_DICT].add(Hook(hook, with_kwargs=True))  # type: ignore[no-any-return]

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return self.__dict__[STATE_DICT].add(Hook(hook))  # type: ignore[no-any-return]

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Adds a function that runs before the module loads its own part of a state.

        It is called as ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)`` and may change these.
        """
        return self.__dict__[LOAD_STATE_DICT_PRE].add(Hook(hook))  # type: ignore[no-any-return]

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        added = Hook(hook, with_module=with_module)
        return self.__dict__[LOAD_STATE_DICT_PRE].add(added)  # type: ignore[no-any-return]

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Adds a function ``hook(module, incompatible_keys)`` that runs after loading."""
        return self.__dict__[LOAD_STATE_DICT_POST].add(Hook(hook))  # type: ignore[no-any-return]


class _Loading:
    """One call of `load_state_dict`: what was found to be wrong on the way."""

    def __init__(self, metadata: Mapping[str, Any], assign: bool) -> None:
        self._metadata = metadata
        self._assign = assign
        self._missing: list[str] = []
        self._unexpected: list[str] = []
        self._problems: list[str] = []

    def load(self, module: Any, state: dict[str, Any], prefix: str) -> None:
        """Loads a module and all below it."""
        metadata = dict(self._metadata.get(prefix[:-1], {}))
        if self._assign:
            metadata["assign_to_params_buffers"] = True
        module._load_from_state_dict(
            *(state, prefix, metadata, True), *(self._missing, self._unexpected, self._problems)
        )
        for name, child in module._modules.items():
            if child is not None:
                start = f"{prefix}{name}."
                part = {key: value for key, value in state.items() if key.startswith(start)}
                self.load(child, part, start)
        keys = IncompatibleKeys(self._missing, self._unexpected)
        for hook in module._hooks(LOAD_STATE_DICT_POST):
            if hook.function(module, keys) is not None:
                raise AssertionError(
                    "hooks of register_load_state_dict_post_hook must return None; change "
                    "incompatible_keys in place"
                )

    def finish(self, name: str, strict: bool) -> IncompatibleKeys:
        """Raises if something is wrong, else returns which names differ."""
        problems = []
        for what, keys in (("Missing", self._missing), ("Unexpected", self._unexpected)):
            if strict and keys:
                quoted = ", ".join(f'"{key}"' for key in keys)
                problems.append(f"{what} key(s) in state_dict: {quoted}. ")
        problems += self._problems
        if problems:
            text = "\n\t".join(problems)
            raise RuntimeError(f"Error(s) in loading state_dict for {name}:\n\t{text}")
        return IncompatibleKeys(self._missing, self._unexpected)
