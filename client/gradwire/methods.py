"""The methods and attributes of tensors: those of the catalog, and those that call back.

Importing this completes the class :class:`gradwire.tensors.Tensor`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from gradwire.callbacks import Callback, run
from gradwire.calls import RemoteObject, make_method
from gradwire.cataloged import CatalogedMethods
from gradwire.tensors import Tensor
from gradwire.v1.catalog import METHODS, PROPERTIES, SETTABLE_PROPERTIES

if TYPE_CHECKING:
    from gradwire.session import Session

__all__ = ["Node", "Tensor", "TensorHook", "backward", "calls_back"]


class TensorHook:
    """What removes a hook of a tensor again."""

    def __init__(self, remote: RemoteObject) -> None:
        self._remote = remote

    def remove(self) -> None:
        """Removes the hook."""
        session = self._remote._slot.session
        session.record("gradwire.remove_hook", (self._remote,), {}, wanted=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _add_hook(value: Any, kind: str, hook: Callable[..., Any]) -> TensorHook:
    session: Session = value._slot.session
    callback = Callback(session, hook, in_backward=True)
    slot = session.record("gradwire.register_hook", (kind, value, callback), {})
    return TensorHook(RemoteObject(slot))


class Node(RemoteObject):
    """A node of the autograd graph: an operation, as its gradients see it."""

    def name(self) -> str:
        """Returns the name of the node's class, such as ``MulBackward0``."""
        name: str = self._slot.session.fetch("gradwire.node_name", (self,), {})
        return name

    @property
    def next_functions(self) -> tuple[tuple["Node | None", int], ...]:
        """The nodes that this one passes gradients on to, each with its input's number."""
        session = self._slot.session
        numbers: list[int | None] = session.fetch("gradwire.next_inputs", (self,), {})
        return tuple(
            (None, 0)
            if number is None
            else (Node(session.record("gradwire.next_node", (self, index), {})), number)
            for index, number in enumerate(numbers)
        )

    def register_hook(self, hook: Callable[..., Any]) -> TensorHook:
        """Adds a function ``hook(grad_inputs, grad_outputs)`` that runs after the node."""
        return _add_hook(self, "hook", hook)

    def register_prehook(self, hook: Callable[..., Any]) -> TensorHook:
        """Adds a function ``hook(grad_outputs)`` that runs before the node."""
        return _add_hook(self, "prehook", hook)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


def _grad_fn(self: Tensor) -> Node | None:
    """The node of the autograd graph that made this tensor; None for a leaf."""
    session = self._slot.session
    if not self.requires_grad or session.fetch("torch.Tensor.is_leaf", (self,), {}):
        return None
    return Node(session.record("gradwire.grad_fn", (self,), {}))


def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> TensorHook:
    """Adds a function that a backward calls with this tensor's gradient; it may return another.

    While there is one, `backward` waits for the server.

    Raises:
        RuntimeError: The tensor does not require a gradient.
    """
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    return _add_hook(self, "hook", hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> TensorHook:
    """Adds a function that is called with this leaf after a backward has added to its ``.grad``.

    While there is one, `backward` waits for the server.
    """
    return _add_hook(self, "post_accumulate_grad", lambda _: hook(self))


def calls_back(
    session: "Session", name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Runs a backward that returns nothing, if it may call functions of the script.

    Returns:
        Whether it did; else there is nothing that it could call.
    """
    if not session.callbacks.num_in_backward:
        return False
    run(session, name, args, kwargs)
    return True


def backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Computes the gradients of all leaves that this tensor was made of, and adds them up there.

    Args:
        self: The tensor.
        gradient: Its gradient; a scalar needs none.
        retain_graph: Whether the graph is kept for another backward.
        create_graph: Whether the gradients can be differentiated in turn.
        inputs: The leaves to collect gradients in; by default all.
    """
    given = {"retain_graph": retain_graph, "create_graph": create_graph or None, "inputs": inputs}
    kwargs = {name: value for name, value in given.items() if value is not None}
    args = (self,) if gradient is None else (self, gradient)
    session = self._slot.session
    if not calls_back(session, "torch.Tensor.backward", args, kwargs):
        session.record("torch.Tensor.backward", args, kwargs, wanted=False)


def _make_property(name: str, returns: str) -> property:
    last = name.rpartition(".")[2]
    getter = make_method(name, returns)

    def setter(self: Tensor, value: Any) -> None:
        if last == "grad" and value is not None and not isinstance(value, Tensor):
            raise TypeError(
                "assigned grad expected to be a Tensor or None but got grad of type "
                f"{type(value).__name__}"
            )
        self._slot.session.record("gradwire.setattr", (self, last, value), {}, wanted=False)
        self._slot.info = None

    def deleter(self: Tensor) -> None:
        setter(self, None)

    settable = name in SETTABLE_PROPERTIES
    return property(
        getter,
        setter if settable else None,
        deleter if last == "grad" else None,
        doc=getter.__doc__,
    )


def _requires_grad(self: Tensor) -> bool:
    return self._info().requires_grad


def _add_methods() -> None:
    """Gives tensors a method for each row of the catalog; the class's own go before these."""
    for name, returns in METHODS.items():
        setattr(CatalogedMethods, name.rpartition(".")[2], make_method(name, returns))
    for name, returns in PROPERTIES.items():
        setattr(CatalogedMethods, name.rpartition(".")[2], _make_property(name, returns))
    setter = vars(CatalogedMethods)["requires_grad"].fset
    CatalogedMethods.requires_grad = property(_requires_grad, setter)  # type: ignore[assignment]
    CatalogedMethods.grad_fn = property(_grad_fn)  # type: ignore[assignment]
    for method in (backward, register_hook, register_post_accumulate_grad_hook):
        method.__qualname__ = f"Tensor.{method.__name__}"
        setattr(CatalogedMethods, method.__name__, method)


_add_methods()
