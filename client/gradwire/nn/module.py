"""Modules: torch.nn.Module in plain Python, for classes that users write."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, Self, TypeVar

from gradwire.nn import hooks
from gradwire.nn.conversion import Convertible
from gradwire.nn.hooks import Hook, Hooks, RemovableHandle
from gradwire.nn.parameter import Buffer, Parameter
from gradwire.objects import restorable
from gradwire.tensors import Tensor
from gradwire.types import typename

M = TypeVar("M", bound="Module")


@restorable
class Module(Convertible):
    """Base of all modules, as in torch: submodules and parameters are attributes.

    ``forward`` is ordinary Python. It runs at every call; the operations in it are recorded.
    """

    training: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            unexpected = f"argument '{next(iter(kwargs))}'" if kwargs else "positional arguments"
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected {unexpected}")
        state = self.__dict__
        state["training"] = True
        state["_parameters"] = {}
        state["_buffers"] = {}
        state["_non_persistent_buffers_set"] = set()
        state["_modules"] = {}
        for kind in hooks.KINDS:
            state[kind] = Hooks()

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
                    f"cannot assign '{typename(value)}' as parameter '{name}' "
                    "(torch.nn.Parameter or None expected)"
                )
            self.register_parameter(name, None)
        elif "_modules" in state and name in state["_modules"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as child module '{name}' "
                    "(torch.nn.Module or None expected)"
                )
            self._modules[name] = None
        elif "_buffers" in state and name in state["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{typename(value)}' as buffer '{name}' "
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
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [
            *(*dir(type(self)), *self.__dict__),
            *(*self._parameters, *self._modules, *self._buffers),
        ]
        return sorted(name for name in names if not name[0].isdigit())

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
        if keep != "_buffers":
            self._non_persistent_buffers_set.discard(name)

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Adds a parameter under a name; None reserves the name."""
        self._check_name(name, "parameter", self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{typename(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a buffer: a tensor that is state but is not trained."""
        self._check_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' "
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
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name(name, "module", self._modules)
        self._modules[name] = module

    def _check_name(self, name: str, what: str, table: Mapping[str, Any]) -> None:
        self._require_initialised(what)
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {typename(name)}")
        if "." in name:
            got = f", got: {name}" if what == "module" else ""
            raise KeyError(f'{what} name can\'t contain "."{got}')
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
        state = self.__dict__
        if (
            state[hooks.FORWARD_PRE]
            or state[hooks.FORWARD]
            or state[hooks.BACKWARD_PRE]
            or state[hooks.BACKWARD]
            or hooks.any_for_all()
        ):
            return hooks.call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(module, args)`` that runs before `forward`.

        Args:
            hook: The function; what it returns, if anything, replaces the arguments.
            prepend: Whether it runs before the hooks there are.
            with_kwargs: Whether it is called as ``hook(module, args, kwargs)``.
        """
        return self._add_hook(hooks.FORWARD_PRE, Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Adds a function ``hook(module, args, output)`` that runs after `forward`.

        Args:
            hook: The function; what it returns, if anything, replaces the output.
            prepend: Whether it runs before the hooks there are.
            with_kwargs: Whether it is called as ``hook(module, args, kwargs, output)``.
            always_call: Whether it runs although `forward` failed.
        """
        return self._add_hook(hooks.FORWARD, Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(module, grad_output)`` that runs before the module's backward."""
        return self._add_hook(hooks.BACKWARD_PRE, Hook(hook), prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Adds a function ``hook(module, grad_input, grad_output)`` of the module's backward."""
        return self._add_hook(hooks.BACKWARD, Hook(hook), prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> NoReturn:
        """Refused: torch calls these hooks with the wrong gradients, and advises against them."""
        raise NotImplementedError(
            "register_backward_hook is not supported; use register_full_backward_hook"
        )

    def _add_hook(self, kind: str, hook: Hook, prepend: bool) -> RemovableHandle:
        added: RemovableHandle = self.__dict__[kind].add(hook, prepend=prepend)
        return added

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

    def modules(self, remove_duplicate: bool = True) -> "Iterator[Module]":
        """Yields this module and all below it."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
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
        module: Any = self
        for name in target.split(".") if target else []:
            module = module._attribute(name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module  # type: ignore[no-any-return]

    def _attribute(self, name: str) -> Any:
        if not hasattr(self, name):
            raise AttributeError(f"{self._get_name()} has no attribute `{name}`")
        return getattr(self, name)

    def set_submodule(self, target: str, module: "Module", strict: bool = False) -> None:
        """Puts a module at a dotted path; with `strict` only in place of another one."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        there = strict or hasattr(owner, name)
        if there and not isinstance(owner._attribute(name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(owner, name, module)

    def get_parameter(self, target: str) -> Tensor:
        """Returns the parameter of a dotted path.

        Raises:
            AttributeError: There is none.
        """
        path, _, name = target.rpartition(".")
        parameter = self.get_submodule(path)._attribute(name)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """Returns the buffer of a dotted path.

        Raises:
            AttributeError: There is none.
        """
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        buffer: Tensor = owner._attribute(name)
        if name not in owner._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return buffer

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
        for parameter in list(self.parameters()):
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the parameters' gradients."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.detach_().zero_()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: how operations run is the server's affair."""

    def share_memory(self) -> NoReturn:
        """Refused: parameters are in the memory of the server."""
        raise NotImplementedError(
            "share_memory: parameters are in the memory of the server, which other processes reach "
            "by sessions of their own"
        )

    def to_empty(self, *, device: Any, recurse: bool = True) -> NoReturn:
        """Refused: memory that nobody has written to is not handed out."""
        raise NotImplementedError("to_empty: memory that nobody has written to is not handed out")

    # ---- printing ----------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Returns what to print between the parentheses; subclasses may define their own."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def _repr_html_(self) -> str:
        from gradwire.html import model_html  # noqa: PLC0415  # only notebooks need it

        return model_html(self)

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
