"""What torch.utils has: `data`, datasets and loaders, and `checkpoint`."""

from gradwire.namespace import catalog_getattr
from gradwire.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
__getattr__, __dir__ = catalog_getattr("torch.utils", globals())
