"""``torch.signal`` on the server."""

from gradwire.signal import windows as windows

__all__ = ["windows"]
