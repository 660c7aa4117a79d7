"""Modules: torch.nn.Module in plain Python, for classes that users write."""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self, TypeVar

from gradwire.nn.parameter import Buffer, Parameter
from gradwire.tensors import Tensor
from gradwire.types import DTYPES

M = TypeVar("M", bound="Module")


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


class RemovableHandle:
    """What removes a hook again."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any]) -> None:
        self.id = next(self._ids)
        self._hooks = hooks

    def remove(self) -> None:
        """Removes the hook."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Module:
    """Base of all modules, as in torch: submodules and parameters are attributes.

    ``forward`` is ordinary Python. It runs at every call; the operations in it are recorded.
    """

    training: bool
    _parameters: dict[str, Tensor | None]
    _buffers: dict[str, Tensor | None]
    _modules: "dict[str, Module | None]"

    def __init__(self) -> None:
        state = self.__dict__
        state["training"] = True
        state["_parameters"] = {}
        state["_buffers"] = {}
        state["_non_persistent_buffers_set"] = set()
        state["_modules"] = {}
        state["_forward_hooks"] = OrderedDict()
        state["_forward_pre_hooks"] = OrderedDict()

    # ---- attributes --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if isinstance(value, Parameter):
            self._require_initialised("parameters")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._require_initialised("module")
            self._forget(name, "_modules")
            self._modules[name] = value
        elif isinstance(value, Buffer):
            self._require_initialised("buffer")
            self._forget(name, "_buffers")
            self.register_buffer(name, value, persistent=value.persistent)
        elif "_parameters" in state and name in state["_parameters"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as parameter '{name}' "
                    "(torch.nn.Parameter or None expected)"
                )
            self.register_parameter(name, None)
        elif "_modules" in state and name in state["_modules"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as child module '{name}' "
                    "(torch.nn.Module or None expected)"
                )
            self._modules[name] = None
        elif "_buffers" in state and name in state["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as buffer '{name}' "
                    "(torch.nn.Buffer, torch.Tensor or None expected)"
                )
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_buffers", "_modules"):
            members = self.__dict__.get(table)
            if members is not None and name in members:
                return members[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            members = self.__dict__.get(table, {})
            if name in members:
                del members[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _require_initialised(self, what: str) -> None:
        if "_modules" not in self.__dict__:
            raise AttributeError(
                f"cannot assign {what} before Module.__init__() call; call super().__init__() first"
            )

    def _forget(self, name: str, keep: str) -> None:
        """Removes an attribute of that name, wherever it is, but from the table `keep`."""
        self.__dict__.pop(name, None)
        for table in ("_parameters", "_buffers", "_modules"):
            if table != keep:
                self.__dict__[table].pop(name, None)

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Adds a parameter under a name; None reserves the name."""
        self._check_name(name, "parameter", self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a buffer: a tensor that is state but is not trained."""
        self._check_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        self._buffers[name] = tensor
        excluded: set[str] = self._non_persistent_buffers_set
        excluded.discard(name) if persistent else excluded.add(name)

    def register_module(self, name: str, module: "Module | None") -> None:
        """Adds a submodule, as `add_module`."""
        self.add_module(name, module)

    def add_module(self, name: str, module: "Module | None") -> None:
        """Adds a submodule under a name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name(name, "module", self._modules)
        self._modules[name] = module

    def _check_name(self, name: str, what: str, table: Mapping[str, Any]) -> None:
        self._require_initialised(what)
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute '{name}' already exists")

    # ---- running -----------------------------------------------------------------------------

    def forward(self, *input: Any, **kwargs: Any) -> Any:
        """Computes the outputs; every subclass defines its own."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module: its hooks and `forward`."""
        if not self._forward_pre_hooks and not self._forward_hooks:
            return self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_pre_hooks.values()):
            if with_kwargs:
                replaced = hook(self, args, kwargs)
                if replaced is not None:
                    args, kwargs = replaced
            else:
                replaced = hook(self, args)
                if replaced is not None:
                    args = replaced if isinstance(replaced, tuple) else (replaced,)
        result = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks.values()):
            replaced = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
            if replaced is not None:
                result = replaced
        return result

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(module, args)`` that runs before `forward`."""
        return self._add_hook(self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(module, args, output)`` that runs after `forward`."""
        return self._add_hook(self._forward_hooks, hook, prepend, with_kwargs)

    def _add_hook(
        self, hooks: Any, hook: Callable[..., Any], prepend: bool, with_kwargs: bool
    ) -> RemovableHandle:
        handle = RemovableHandle(hooks)
        hooks[handle.id] = (hook, with_kwargs)
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    # ---- walking -----------------------------------------------------------------------------

    def children(self) -> "Iterator[Module]":
        """Yields the direct submodules."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> "Iterator[tuple[str, Module]]":
        """Yields the direct submodules with their names."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self) -> "Iterator[Module]":
        """Yields this module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_modules(
        self,
        memo: "set[Module] | None" = None,
        prefix: str = "",
        remove_duplicate: bool = True,
    ) -> "Iterator[tuple[str, Module]]":
        """Yields this module and all below it with their dotted paths."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def _named_members(
        self, table: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Tensor]]:
        seen: set[Tensor] = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, member in getattr(module, table).items():
                if member is None or member in seen:
                    continue
                if remove_duplicate:
                    seen.add(member)
                yield (f"{path}.{name}" if path else name), member

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yields the parameters."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields the parameters with their dotted paths."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yields the buffers."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields the buffers with their dotted paths."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def get_submodule(self, target: str) -> "Module":
        """Returns the submodule of a dotted path.

        Raises:
            AttributeError: There is none.
        """
        module: Module = self
        for name in target.split(".") if target else []:
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = child
        return module

    def get_parameter(self, target: str) -> Tensor:
        """Returns the parameter of a dotted path."""
        return self._get_member("_parameters", target)

    def get_buffer(self, target: str) -> Tensor:
        """Returns the buffer of a dotted path."""
        return self._get_member("_buffers", target)

    def _get_member(self, table: str, target: str) -> Tensor:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        member: Tensor | None = getattr(owner, table).get(name)
        if member is None:
            raise AttributeError(f"{type(owner).__name__} has no attribute `{name}`")
        return member

    def apply(self, fn: "Callable[[Module], None]") -> Self:
        """Calls a function with every submodule, then with this module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- changing ----------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switches this module and all below it to training mode."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Switches this module and all below it to evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Lets autograd track the parameters, or not."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the parameters' gradients."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.detach_().zero_()

    def _apply_to(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Converts what the module itself owns, in place."""
        for table in (self._parameters, self._buffers):
            for member in table.values():
                if member is None:
                    continue
                converted = member.detach().to(*args, **kwargs)
                if table is self._parameters or member.is_floating_point():
                    member.data = converted

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Converts parameters and buffers to a device or a floating point type."""
        for module in self.modules():
            module._apply_to(args, kwargs)
        return self

    def float(self) -> Self:
        """Converts floating point parameters and buffers to float32."""
        return self.to(DTYPES["float32"])

    def double(self) -> Self:
        """Converts floating point parameters and buffers to float64."""
        return self.to(DTYPES["float64"])

    def half(self) -> Self:
        """Converts floating point parameters and buffers to float16."""
        return self.to(DTYPES["float16"])

    def bfloat16(self) -> Self:
        """Converts floating point parameters and buffers to bfloat16."""
        return self.to(DTYPES["bfloat16"])

    def cpu(self) -> Self:
        """Moves parameters and buffers to the worker's CPU."""
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Self:
        """Moves parameters and buffers to the worker's CUDA device."""
        return self.to("cuda" if device is None else f"cuda:{device}")

    # ---- state -------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> "OrderedDict[str, Tensor]":
        """Returns parameters and persistent buffers by dotted path."""
        state: OrderedDict[str, Tensor] = OrderedDict() if destination is None else destination
        for path, module in self.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
            start = f"{path}." if path else ""
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    state[start + name] = parameter if keep_vars else parameter.detach()
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._non_persistent_buffers_set:
                    state[start + name] = buffer if keep_vars else buffer.detach()
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies tensors into parameters and buffers of the same names.

        Args:
            state_dict: Tensors by dotted path.
            strict: Whether the names must be the same ones.
            assign: Not supported: values are always copied.

        Raises:
            RuntimeError: Names or shapes differ.
        """
        if assign:
            raise NotImplementedError("load_state_dict(assign=True): values are always copied")
        own = self.state_dict(keep_vars=True)
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict and unexpected:
            quoted = ", ".join(f'"{name}"' for name in unexpected)
            problems.append(f"Unexpected key(s) in state_dict: {quoted}. ")
        if strict and missing:
            quoted = ", ".join(f'"{name}"' for name in missing)
            problems.append(f"Missing key(s) in state_dict: {quoted}. ")
        for name, target in own.items():
            if name in state_dict and tuple(state_dict[name].shape) != tuple(target.shape):
                problems.append(
                    f"size mismatch for {name}: copying a param with shape "
                    f"{state_dict[name].shape} from checkpoint, the shape in current model is "
                    f"{target.shape}."
                )
        if problems:
            text = "\n\t".join(problems)
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{text}"
            )
        for name, target in own.items():
            if name in state_dict:
                target.detach().copy_(state_dict[name])
        return IncompatibleKeys(missing, unexpected)

    # ---- printing ----------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Returns what to print between the parentheses; subclasses may define their own."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [
            f"({name}): {_indent(repr(module))}" for name, module in self._modules.items()
        ]
        lines = extra_lines + child_lines
        if not lines:
            return f"{self._get_name()}()"
        if len(extra_lines) == 1 and not child_lines:
            return f"{self._get_name()}({extra_lines[0]})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _indent(text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *("  " + line for line in rest)])
