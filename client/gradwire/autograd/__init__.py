"""``torch.autograd`` on the server: gradients, and functions that define their own."""

from typing import Any

from gradwire.autograd import function as function
from gradwire.autograd import functional as functional
from gradwire.autograd import graph as graph
from gradwire.autograd.function import Function as Function
from gradwire.callbacks import run
from gradwire.calls import RemoteObject, invoke, session_of, wrap
from gradwire.grad_mode import detect_anomaly as detect_anomaly
from gradwire.grad_mode import enable_grad as enable_grad
from gradwire.grad_mode import inference_mode as inference_mode
from gradwire.grad_mode import no_grad as no_grad
from gradwire.grad_mode import set_detect_anomaly as set_detect_anomaly
from gradwire.grad_mode import set_grad_enabled as set_grad_enabled
from gradwire.methods import calls_back
from gradwire.namespace import catalog_getattr
from gradwire.tensors import Tensor

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "graph",
    "inference_mode",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Computes the gradients of all leaves that the tensors were made of, and adds them up there.

    Args:
        tensors: The tensors.
        grad_tensors: Their gradients; scalars need none.
        retain_graph: Whether the graph is kept for another backward.
        create_graph: Whether the gradients can be differentiated in turn.
        inputs: The leaves to collect gradients in; by default all.
    """
    given = {
        "grad_tensors": _listed(grad_tensors),
        "retain_graph": retain_graph,
        "create_graph": create_graph or None,
        "inputs": _listed(inputs),
    }
    kwargs = {name: value for name, value in given.items() if value is not None}
    args = (_listed(tensors),)
    session = session_of(args, kwargs)
    if not calls_back(session, "torch.autograd.backward", args, kwargs):
        session.record("torch.autograd.backward", args, kwargs, wanted=False)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Returns the gradients of outputs with respect to inputs, as torch.autograd.grad does.

    Args:
        outputs: What is differentiated.
        inputs: What by.
        grad_outputs: The gradients of the outputs; scalars need none.
        retain_graph: Whether the graph is kept for another backward.
        create_graph: Whether the gradients can be differentiated in turn.
        only_inputs: True; torch has no other way any more.
        allow_unused: Whether inputs may have no part in the outputs; their gradient is None.
        is_grads_batched: Whether `grad_outputs` has a first dimension over gradients to compute.
        materialize_grads: Whether zeros take the place of None.
    """
    if not only_inputs:
        raise ValueError("only_inputs=False is not supported; call backward")
    given = {
        "grad_outputs": _listed(grad_outputs),
        "retain_graph": retain_graph,
        "create_graph": create_graph or None,
        "allow_unused": allow_unused,
        "is_grads_batched": is_grads_batched or None,
        "materialize_grads": materialize_grads or None,
    }
    kwargs = {name: value for name, value in given.items() if value is not None}
    args = (_listed(outputs), _listed(inputs))
    session = session_of(args, kwargs)
    name = "torch.autograd.grad"
    if session.callbacks.num_in_backward:
        result: tuple[Any, ...] = run(session, name, args, kwargs)
        return result
    if allow_unused and not materialize_grads:
        # Where the graph does not reach is known only to the server.
        return invoke(session, name, "variable", args, kwargs)  # type: ignore[no-any-return]
    made = RemoteObject(session.record(name, args, kwargs))
    return tuple(
        wrap(session.record("gradwire.getitem", (made, index), {})) for index in range(len(args[1]))
    )


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:  # noqa: N802  # torch's name
    """Returns the tensor, tracked by autograd or not; torch's name from before tensors were."""
    detached: Tensor = data.detach()
    return detached.requires_grad_(requires_grad)


def _listed(value: Any) -> Any:
    if value is None or isinstance(value, list):
        return value
    return [value] if isinstance(value, Tensor) else list(value)


__getattr__, __dir__ = catalog_getattr("torch.autograd", globals())
