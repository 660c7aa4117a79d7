"""``torch.optim`` on the server."""

from gradwire.namespace import catalog_getattr
from gradwire.optim import lr_scheduler as lr_scheduler
from gradwire.optim import swa_utils as swa_utils
from gradwire.optim.builtin import optimizer_class
from gradwire.optim.optimizer import Optimizer as Optimizer
from gradwire.v1.catalog import OPTIMIZERS

__all__ = [  # noqa: PLE0604
    "Optimizer",
    "lr_scheduler",
    "swa_utils",
    *(name.removeprefix("torch.optim.") for name in OPTIMIZERS),
]
__getattr__, __dir__ = catalog_getattr("torch.optim", globals(), optimizer_class)
