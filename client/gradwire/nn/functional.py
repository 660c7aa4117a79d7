"""``torch.nn.functional`` on the server."""

from gradwire.namespace import catalog_getattr, public_names
from gradwire.nn.triplet import (
    triplet_margin_with_distance_loss as triplet_margin_with_distance_loss,
)

__all__ = public_names("torch.nn.functional")  # noqa: PLE0605
__getattr__, __dir__ = catalog_getattr("torch.nn.functional", globals())
