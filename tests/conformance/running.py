"""Runs one call on both sides, forward and backward, and compares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import gradwire
from tests.conformance.comparing import DifferenceError, Tolerance, compare
from tests.conformance.sides import NotAllowedError, Remote, attribute, tensors

SEED = 17


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a function of torch.

    Attributes:
        function: The function; it is translated for gradwire.
        args: Positional arguments, tensors of local torch among them.
        kwargs: Keyword arguments.
        process: What makes a differentiable function of the result, as the tables say.
        in_place: Whether the function changes its first argument.
        out: Whether to give it, as ``out=``, what the result is to be written into.
        values: Whether the elements of the result are to be compared.
        backward: Whether gradients are to be compared.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    process: Callable[[Any], Any] | None = None
    in_place: bool = False
    out: bool = False
    values: bool = True
    backward: bool = True


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What two sides agreed in.

    Attributes:
        exact: Whether all numbers are equal to the last bit.
        raised: Whether both raised, and the same class of exception.
        differentiated: Whether gradients were computed and compared.
    """

    exact: bool
    raised: bool = False
    differentiated: bool = False


def agree(call: Call, tolerance: Tolerance) -> Agreement:
    """Runs a call on both sides and compares result and gradients.

    Raises:
        NotAllowedError: The call needs something that is not in the catalog.
        DifferenceError: The sides disagree.
    """
    remote = Remote()
    function = remote.function(call.function)
    process = remote.function(call.process) if call.process else None
    args, kwargs = copied((call.args, call.kwargs), {})
    remote_args, remote_kwargs = remote.value((args, kwargs))
    if call.out:
        prototype = _attempt(torch, call.function, args, kwargs, call)
        kwargs = {**kwargs, "out": _empty(torch, prototype)}
        remote_kwargs = {**remote_kwargs, "out": _empty(gradwire, prototype)}
    local = _attempt(torch, call.function, args, kwargs, call)
    other = _attempt(gradwire, function, remote_args, remote_kwargs, call)
    if isinstance(local, Exception) or isinstance(other, Exception):
        return agree_in_raising(local, other)
    exact = compare(local, other, tolerance, values=call.values)
    if not call.backward or not call.values:
        return Agreement(exact=exact)
    if call.process and process:
        local, other = call.process(local), process(other)
    leaves = [t for t in tensors((args, kwargs)) if t.requires_grad and t.is_leaf]
    differentiated = agree_in_gradients(
        (local, leaves), (other, [remote.value(leaf) for leaf in leaves]), tolerance
    )
    return replace(differentiated, exact=exact and differentiated.exact)


def agree_in_gradients(
    local: tuple[Any, list[torch.Tensor]], other: tuple[Any, list[Any]], tolerance: Tolerance
) -> Agreement:
    """Differentiates a result by leaves, on both sides, and compares the gradients.

    Args:
        local: The result of torch, and the leaves.
        other: The same of gradwire.
        tolerance: How far numbers may be off.
    """
    pairs = [
        (mine, theirs)
        for mine, theirs in zip(tensors(local[0]), tensors(other[0]), strict=True)
        if mine.requires_grad
    ]
    if not pairs or not local[1]:
        return Agreement(exact=True)
    like = [mine for mine, _ in pairs]
    gradients = _gradients(torch, like, local[1], like)
    others = _gradients(gradwire, [theirs for _, theirs in pairs], other[1], like)
    if isinstance(gradients, Exception) or isinstance(others, Exception):
        return agree_in_raising(gradients, others)
    return Agreement(exact=compare(gradients, others, tolerance), differentiated=True)


def _attempt(lib: Any, function: Any, args: Any, kwargs: Any, call: Call) -> Any:
    """Returns what a call returns, or the exception that it raises."""
    lib.manual_seed(SEED)
    try:
        if call.in_place:
            first, *rest = args
            result = function(first.clone(), *rest, **kwargs)
        else:
            result = function(*args, **kwargs)
        if lib is gradwire:
            gradwire.current_session().flush()
    except Exception as error:  # noqa: BLE001  # what it is, is the question
        return error
    return result


def _empty(lib: Any, prototype: Any) -> Any:
    """Returns empty tensors of the dtypes of a result, for a call to resize and fill."""
    if isinstance(prototype, torch.Tensor):
        return lib.empty(0, dtype=attribute(lib, str(prototype.dtype)))
    if isinstance(prototype, list | tuple):
        return tuple(_empty(lib, part) for part in prototype)
    return None


def _gradients(lib: Any, outputs: list[Any], leaves: list[Any], like: list[torch.Tensor]) -> Any:
    """Returns the gradients of the leaves, or the exception that computing them raises."""
    try:
        dense = [
            output.to_dense() if mine.layout != torch.strided else output
            for output, mine in zip(outputs, like, strict=True)
        ]
        generator = torch.Generator().manual_seed(SEED)
        weights: list[Any] = [
            torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in like
        ]
        if lib is gradwire:
            weights = [gradwire.tensor(weight) for weight in weights]
        return lib.autograd.grad(dense, leaves, weights, allow_unused=True)
    except Exception as error:  # noqa: BLE001  # what it is, is the question
        return error


def agree_in_raising(local: Any, remote: Any) -> Agreement:
    """Compares what two sides did of which one at least raised.

    Raises:
        DifferenceError: Only one raised, or another class of exception.
    """
    if not isinstance(remote, Exception):
        raise DifferenceError(f"torch raises {local!r}, gradwire nothing")
    if not isinstance(local, Exception):
        if isinstance(remote, AttributeError) and remote.name:
            raise NotAllowedError(f"{_owner(remote.obj)}.{remote.name}") from remote
        raise DifferenceError(f"gradwire raises {_short(remote)}") from remote
    if not isinstance(remote, type(local)):
        raise DifferenceError(
            f"torch raises {_short(local)}, gradwire {_short(remote)}"
        ) from remote
    return Agreement(exact=True, raised=True)


def _owner(obj: Any) -> str:
    """Returns torch's name of what lacks an attribute."""
    if isinstance(obj, gradwire.Tensor):
        return "torch.Tensor"
    return "torch.ops.aten" if obj is gradwire.ops.aten else "torch"


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """Returns arguments with fresh leaves for tensors, laid out as tensors arrive on a server."""
    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            memo[id(value)] = _leaf(value)
        return memo[id(value)]
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[copied(part, memo) for part in value])
    if isinstance(value, list | tuple):
        return type(value)(copied(part, memo) for part in value)
    if isinstance(value, dict):
        return {key: copied(part, memo) for key, part in value.items()}
    return value


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    detached = tensor.detach().clone()
    if detached.layout == torch.strided:
        detached = (
            detached.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
        )
    return detached.requires_grad_(tensor.requires_grad)


def without_gradient(call: Call) -> Call:
    """Returns a call with tensors that require no gradients."""
    args, kwargs = copied((call.args, call.kwargs), {})
    for tensor in tensors((args, kwargs)):
        tensor.requires_grad_(False)
    return replace(call, args=args, kwargs=kwargs, backward=False)


def spread(values: Sequence[Any], count: int) -> Sequence[Any]:
    """Returns at most `count` of the values, evenly spread."""
    if len(values) <= count:
        return values
    return [values[index * len(values) // count] for index in range(count)]
