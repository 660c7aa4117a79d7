"""Functions that define their own gradients: ``torch.autograd.Function``.

``forward`` runs in the script, its operations recorded without autograd; the server then makes one
node of the graph of them. A backward that comes to the node stops there, and ``backward`` runs in
the script too.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from gradwire.callbacks import Callback
from gradwire.calls import RemoteObject, session_of, wrap
from gradwire.grad_mode import no_grad
from gradwire.tensors import Tensor


class FunctionCtx:
    """What one call of a function keeps from its forward for its backward.

    Attributes:
        saved_tensors: In backward: what `save_for_backward` was given.
        needs_input_grad: For each input whether it needs a gradient.
    """

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._inputs = inputs
        self._needed: tuple[bool, ...] | None = None
        self._saved: tuple[Any, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize_grads = True

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each input of `forward` whether it needs a gradient."""
        if self._needed is None:
            self._needed = tuple(
                isinstance(value, Tensor) and value.requires_grad for value in self._inputs
            )
        return self._needed

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` was given."""
        return self._saved

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs, outputs or other tensors for `backward`."""
        for value in tensors:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    "save_for_backward can only save variables, but argument "
                    f"{tensors.index(value)} is of type {type(value).__name__}"
                )
        self._saved = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Does nothing: forward mode differentiation is not supported."""

    def mark_dirty(self, *args: Tensor) -> None:
        """Tells which inputs `forward` changed in place; they must be outputs, too."""
        self._dirty = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Tells which outputs have no gradient."""
        self._non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Tells whether `backward` gets zeros in place of None."""
        self._materialize_grads = value


class Function:
    """An operation with a gradient of its own; subclasses define `forward` and `backward`.

    As in torch, `forward` takes a context and the inputs, or the inputs alone if there is a
    `setup_context`. `backward` takes the context and the gradient of each output and returns
    a gradient or None for each input.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the outputs."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keeps for backward what it needs of inputs and outputs."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Computes the gradient of each input from those of the outputs."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Calls the function.

        Args:
            args: The inputs of `forward`; gradients flow to the tensors among them.
            kwargs: Not taken, as in torch.

        Returns:
            What `forward` returns: a tensor, or a tuple of tensors and other values.
        """
        if kwargs:
            raise TypeError(f"{cls.__name__}.apply() takes no keyword arguments")
        ctx = FunctionCtx(args)
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                outputs = cls.forward(*args)
                cls.setup_context(ctx, args, outputs)
            else:
                outputs = cls.forward(ctx, *args)
        return _join_graph(cls, ctx, args, outputs)


def _join_graph(cls: type[Function], ctx: FunctionCtx, args: tuple[Any, ...], outputs: Any) -> Any:
    """Makes the function the origin of its outputs, and returns them."""
    results = outputs if isinstance(outputs, tuple) else (outputs,)
    session = session_of((*args, *results), {})
    session.require_untraced(f"{cls.__name__}.apply")

    def backward(saved: tuple[Any, ...], needed: tuple[bool, ...], gradients: Any) -> Any:
        ctx._saved, ctx._needed = saved, needed
        try:
            return cls.backward(ctx, *gradients)
        finally:
            ctx._saved = ()

    made = RemoteObject(
        session.record(
            "gradwire.apply_function",
            (
                *(cls.__name__, Callback(session, backward, in_backward=True)),
                [value if isinstance(value, Tensor) else None for value in args],
                [value if isinstance(value, Tensor) else None for value in results],
                list(ctx._saved),
            ),
            {
                "dirty": list(ctx._dirty),
                "non_differentiable": list(ctx._non_differentiable),
                "materialize_grads": ctx._materialize_grads,
                "once": getattr(cls.backward, "_once", False),
            },
        )
    )
    ctx._saved = ctx._dirty = ctx._non_differentiable = ctx._inputs = ()
    joined = tuple(
        wrap(session.record("gradwire.getitem", (made, index), {}))
        if isinstance(value, Tensor)
        else value
        for index, value in enumerate(results)
    )
    for value in results:
        # It may be an input that was changed in place, and is part of the graph now.
        if isinstance(value, Tensor):
            value._slot.info = None
    return joined if isinstance(outputs, tuple) else joined[0]


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a `backward` whose result can't be differentiated in turn."""

    @wraps(fn)
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        with no_grad():
            return fn(ctx, *grad_outputs)

    backward._once = True  # type: ignore[attr-defined]
    return backward
