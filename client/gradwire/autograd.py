"""``torch.autograd`` on the server."""

from gradwire.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from gradwire.namespace import catalog_getattr, public_names

__all__ = [  # noqa: PLE0604
    "enable_grad",
    "inference_mode",
    "no_grad",
    "set_grad_enabled",
    *public_names("torch.autograd"),
]
__getattr__, __dir__ = catalog_getattr("torch.autograd", globals())
