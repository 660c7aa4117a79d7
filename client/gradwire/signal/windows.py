"""``torch.signal.windows`` on the server."""

from gradwire.namespace import catalog_getattr, public_names

__all__ = public_names("torch.signal.windows")  # noqa: PLE0605
__getattr__, __dir__ = catalog_getattr("torch.signal.windows", globals())
