"""``torch.masked`` on the server."""

from gradwire.namespace import catalog_getattr, public_names

__all__ = public_names("torch.masked")  # noqa: PLE0605
__getattr__, __dir__ = catalog_getattr("torch.masked", globals())
