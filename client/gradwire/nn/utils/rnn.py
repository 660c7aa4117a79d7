"""``torch.nn.utils.rnn`` on the server: sequences of different lengths in one batch."""

from gradwire.namespace import catalog_getattr, public_names
from gradwire.nn.packed import PackedSequence as PackedSequence

__all__ = ["PackedSequence", *public_names("torch.nn.utils.rnn")]  # noqa: PLE0604
__getattr__, __dir__ = catalog_getattr("torch.nn.utils.rnn", globals())
