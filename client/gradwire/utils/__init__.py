"""What torch.utils has: `data`, datasets and loaders."""

from gradwire.utils import data

__all__ = ["data"]
