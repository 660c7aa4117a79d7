"""``torch.optim.lr_scheduler`` on the server."""

from gradwire.namespace import catalog_getattr
from gradwire.optim.schedulers import ChainedScheduler as ChainedScheduler
from gradwire.optim.schedulers import LRScheduler as LRScheduler
from gradwire.optim.schedulers import scheduler_class
from gradwire.v1.catalog import SCHEDULERS

_LRScheduler = LRScheduler
_PREFIX = "torch.optim.lr_scheduler."

__all__ = [  # noqa: PLE0604
    "LRScheduler",
    *(name.removeprefix(_PREFIX) for name in SCHEDULERS if name.startswith(_PREFIX)),
]
__getattr__, __dir__ = catalog_getattr(_PREFIX.rstrip("."), globals(), scheduler_class)
