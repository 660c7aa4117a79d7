"""Jacobians, Hessians and their products with vectors, of functions of the script.

The function runs in the script, its operations recorded as always; the derivatives are taken of
what it recorded. The operations and their order are those of ``torch.autograd.functional``, so
the numbers are torch's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gradwire.calls import invoke, make_function
from gradwire.grad_mode import enable_grad, is_grad_enabled, set_grad_enabled
from gradwire.tensors import Tensor
from gradwire.v1.catalog import FUNCTIONS

Function = Callable[..., Any]
Tensors = tuple[Tensor, ...]

_stack = make_function("torch.stack", FUNCTIONS["torch.stack"])
_zeros_like = make_function("torch.zeros_like", FUNCTIONS["torch.zeros_like"])


def vjp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Returns the outputs of a function, and the product of a vector with its Jacobian.

    Args:
        func: Takes tensors, returns a tensor or a tuple of them.
        inputs: Where to differentiate: a tensor or a tuple of them.
        v: The vector, of the shapes of the outputs; not needed for a single number.
        create_graph: Whether the results can be differentiated in turn.
        strict: Whether an output that does not depend on an input is an error.
    """
    with enable_grad():
        given = _prepare(_as_tuple(inputs), create_graph, need_graph=True)
        returned = func(*given)
        outputs = _as_tuple(returned)
        _require_grad(outputs, "outputs", strict)
        vector = _vector(v, outputs, "returns", create_graph)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = _filled(_grad(outputs, given, vector, create_graph), given, strict)
    return (
        _like(_finish(outputs, create_graph), returned),
        _like(_finish(product, create_graph), inputs),
    )


def jvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Returns the outputs of a function, and the product of its Jacobian with a vector.

    Args:
        func: Takes tensors, returns a tensor or a tuple of them.
        inputs: Where to differentiate: a tensor or a tuple of them.
        v: The vector, of the shapes of the inputs; not needed for a single number.
        create_graph: Whether the results can be differentiated in turn.
        strict: Whether an output that does not depend on an input is an error.
    """
    with enable_grad():
        given = _prepare(_as_tuple(inputs), create_graph, need_graph=True)
        vector = _vector(v, given, "takes", create_graph)
        returned = func(*given)
        outputs = _as_tuple(returned)
        _require_grad(outputs, "outputs", strict)
        # Twice backward: the result is linear in these, so their values are of no importance.
        weights = tuple(_zeros_like(output, requires_grad=True) for output in outputs)
        gradients = _grad(outputs, given, weights, create_graph=True)
        _require_grad(gradients, "grad_inputs", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = _filled(_grad(gradients, weights, vector, create_graph), outputs, strict)
    return (
        _like(_finish(outputs, create_graph), returned),
        _like(_finish(product, create_graph), returned),
    )


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """Returns the Jacobian of a function.

    Args:
        func: Takes tensors, returns a tensor or a tuple of them.
        inputs: Where to differentiate: a tensor or a tuple of them.
        create_graph: Whether the Jacobian can be differentiated in turn.
        strict: Whether an output that does not depend on an input is an error.
        vectorize: Whether all rows are computed in one go.
        strategy: ``reverse-mode``; ``forward-mode`` is not supported.

    Returns:
        A tensor of the shape of the output followed by that of the input; a tuple over the inputs
        if they are one, and of such tuples over the outputs if those are one.
    """
    if strategy != "reverse-mode":
        raise NotImplementedError(f"strategy={strategy!r} is not supported; use 'reverse-mode'")
    with enable_grad():
        given = _prepare(_as_tuple(inputs), create_graph, need_graph=True)
        returned = func(*given)
        outputs = _as_tuple(returned)
        _require_grad(outputs, "outputs", strict)
        compute = _batched_rows if vectorize and not strict else _rows
        rows = [compute(outputs, i, given, create_graph, strict) for i in range(len(outputs))]
        result = [
            tuple(
                row.view(output.shape + tensor.shape)
                for row, tensor in zip(of_output, given, strict=True)
            )
            for output, of_output in zip(outputs, rows, strict=True)
        ]
        finished = [_like(_finish(of_output, create_graph), inputs) for of_output in result]
        return tuple(finished) if isinstance(returned, tuple | list) else finished[0]


def hessian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Returns the Hessian of a function that returns a single number.

    Args:
        func: Takes tensors, returns a tensor of one element.
        inputs: Where to differentiate: a tensor or a tuple of them.
        create_graph: Whether the Hessian can be differentiated in turn.
        strict: Whether an output that does not depend on an input is an error.
        vectorize: Whether all rows are computed in one go.
        outer_jacobian_strategy: ``reverse-mode``; ``forward-mode`` is not supported.
    """

    def single(*given: Tensor) -> Tensor:
        output = func(*given)
        _require_single(output, "hessian")
        squeezed: Tensor = output.squeeze()
        return squeezed

    def gradients(*given: Tensor) -> Any:
        result = jacobian(single, given, create_graph=True)
        _require_grad(result, "jacobian", strict)
        return result

    rows = jacobian(gradients, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)
    return rows if isinstance(inputs, tuple | list) else rows[0]


def vhp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Returns the output of a function, and the product of a vector with its Hessian."""
    with enable_grad():
        given = _prepare(_as_tuple(inputs), create_graph, need_graph=True)
        vector = _vector(v, given, "takes", create_graph)
        output = func(*given)
        _require_single(output, "vhp")
        gradients = _grad((output,), given, None, create_graph=True)
        _require_grad(gradients, "jacobian", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = _filled(_grad(gradients, given, vector, create_graph), given, strict)
    return (
        _finish((output,), create_graph)[0],
        _like(_finish(product, create_graph), inputs),
    )


def hvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Returns the output of a function, and the product of its Hessian with a vector."""
    with enable_grad():
        given = _prepare(_as_tuple(inputs), create_graph, need_graph=True)
        vector = _vector(v, given, "takes", create_graph)
        output = func(*given)
        _require_single(output, "hvp")
        gradients = _grad((output,), given, None, create_graph=True)
        _require_grad(gradients, "jacobian", strict)
        weights = tuple(_zeros_like(tensor, requires_grad=True) for tensor in given)
        twice = _grad(gradients, given, weights, create_graph=True)
        _require_grad(twice, "hessian", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = _filled(_grad(twice, weights, vector, create_graph), given, strict)
    return (
        _finish((output,), create_graph)[0],
        _like(_finish(product, create_graph), inputs),
    )


def _rows(
    outputs: Tensors, index: int, inputs: Tensors, create_graph: bool, strict: bool
) -> list[Tensor]:
    """Returns one output's Jacobian for each input, its rows along the first dimension."""
    output = outputs[index]
    rows: list[list[Tensor]] = [[] for _ in inputs]
    for element in range(output.numel()):
        gradients = _grad(
            (output.reshape(-1)[element],), inputs, None, create_graph, retain_graph=True
        )
        for row, gradient in zip(rows, _filled(gradients, inputs, strict), strict=True):
            row.append(gradient)
    return [_stack(row, dim=0) for row in rows]


def _batched_rows(
    outputs: Tensors, index: int, inputs: Tensors, create_graph: bool, _: bool
) -> list[Tensor]:
    """As `_rows`, with all rows in one backward."""
    output = outputs[index]
    numel = output.numel()
    basis = output.new_zeros(numel, numel)
    basis.fill_diagonal_(1)
    gradients = _grad(
        (output.reshape(-1),), inputs, (basis,), create_graph, retain_graph=True, batched=True
    )
    return [
        _zeros_like(tensor).expand((numel, *tensor.shape)) if gradient is None else gradient
        for gradient, tensor in zip(gradients, inputs, strict=True)
    ]


def _grad(
    outputs: Sequence[Any],
    inputs: Tensors,
    vector: Sequence[Any] | None,
    create_graph: bool,
    *,
    retain_graph: bool | None = None,
    batched: bool = False,
) -> tuple[Any, ...]:
    """Returns the gradients of those outputs that have any; None where there is none."""
    weights = [None] * len(outputs) if vector is None else vector
    pairs = [
        (output, weight)
        for output, weight in zip(outputs, weights, strict=True)
        if output is not None and output.requires_grad
    ]
    if not pairs:
        return (None,) * len(inputs)
    args = ([output for output, _ in pairs], list(inputs), [weight for _, weight in pairs])
    options: dict[str, Any] = {"create_graph": create_graph, "allow_unused": True}
    if retain_graph is not None:
        options["retain_graph"] = retain_graph
    if batched:
        options["is_grads_batched"] = True
    session = inputs[0]._slot.session
    result: tuple[Any, ...] = invoke(session, "torch.autograd.grad", "variable", args, options)
    return result


def _filled(gradients: Sequence[Any], like: Sequence[Tensor], strict: bool) -> Tensors:
    filled = []
    for index, (gradient, tensor) in enumerate(zip(gradients, like, strict=True)):
        if gradient is None and strict:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {index}. This "
                "is not allowed in strict mode."
            )
        filled.append(_zeros_like(tensor) if gradient is None else gradient)
    return tuple(filled)


def _as_tuple(value: Any) -> Tensors:
    values = value if isinstance(value, tuple | list) else (value,)
    for element in values:
        if not isinstance(element, Tensor):
            raise TypeError(
                "inputs and outputs must be Tensors or tuples of Tensors, not "
                f"{type(element).__name__}"
            )
    return tuple(values)


def _prepare(tensors: Tensors, create_graph: bool, *, need_graph: bool) -> Tensors:
    """Returns leaves, or views if the results are to be differentiated as well."""
    return tuple(
        tensor.view_as(tensor)
        if create_graph and tensor.requires_grad
        else tensor.detach().requires_grad_(need_graph)
        for tensor in tensors
    )


def _vector(v: Any, like: Tensors, what: str, create_graph: bool) -> Tensors | None:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(
                f"The vector v can only be None if the user-provided function {what} a single "
                "Tensor with a single element."
            )
        return None
    vector = _prepare(_as_tuple(v), create_graph, need_graph=False)
    if [tuple(t.shape) for t in vector] != [tuple(t.shape) for t in like]:
        raise RuntimeError(
            f"v has shapes {[tuple(t.shape) for t in vector]}; needed are "
            f"{[tuple(t.shape) for t in like]}"
        )
    return vector


def _require_grad(tensors: Any, what: str, strict: bool) -> None:
    if not strict:
        return
    for index, tensor in enumerate(tensors if isinstance(tensors, tuple | list) else (tensors,)):
        if tensor is None or not tensor.requires_grad:
            raise RuntimeError(
                f"{what} {index} of the user-provided function is independent of the inputs. This "
                "is not allowed in strict mode."
            )


def _require_single(output: Any, what: str) -> None:
    if not isinstance(output, Tensor):
        raise RuntimeError(f"The function given to {what} should return a single Tensor")
    if output.numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {what} should contain a single element"
        )


def _finish(tensors: Tensors, create_graph: bool) -> Tensors:
    return tensors if create_graph else tuple(tensor.detach() for tensor in tensors)


def _like(tensors: Tensors, given: Any) -> Any:
    """Returns a tuple if a tuple was given, else its one element."""
    return tensors if isinstance(given, tuple | list) else tensors[0]
