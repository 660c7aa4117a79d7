"""``torch.nn.utils`` on the server: clipping of gradients, parameters as one vector."""

from gradwire.namespace import catalog_getattr, public_names
from gradwire.nn.utils import rnn as rnn

__all__ = ["rnn", *public_names("torch.nn.utils")]  # noqa: PLE0604
__getattr__, __dir__ = catalog_getattr("torch.nn.utils", globals())
