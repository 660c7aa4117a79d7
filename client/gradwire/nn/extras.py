"""What classes of torch.nn offer beside calling them, where that is Python of torch's own."""

from typing import Any

from gradwire.calls import make_function
from gradwire.connection import current_session
from gradwire.types import DTYPES
from gradwire.v1.catalog import FUNCTIONS

_full = make_function("torch.full", FUNCTIONS["torch.full"])
_triu = make_function("torch.triu", FUNCTIONS["torch.triu"])


def _generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Any:
    """Returns a mask of shape (sz, sz) that hides from each position those after it."""
    options = {
        "device": device or current_session().device,
        "dtype": dtype or DTYPES["float32"],
    }
    return _triu(_full((sz, sz), float("-inf"), **options), diagonal=1)


def _all_weights(self: Any) -> list[list[Any]]:
    """The parameters of each layer and direction, in torch's order."""
    weights = []
    for layer in range(self.num_layers):
        for suffix in ("", "_reverse")[: 2 if self.bidirectional else 1]:
            names = [f"weight_ih_l{layer}{suffix}", f"weight_hh_l{layer}{suffix}"]
            if self.bias:
                names += [f"bias_ih_l{layer}{suffix}", f"bias_hh_l{layer}{suffix}"]
            if self.proj_size:
                names.append(f"weight_hr_l{layer}{suffix}")
            weights.append([getattr(self, name) for name in names])
    return weights


def _from_pretrained(cls: Any, /, embeddings: Any, freeze: bool = True, **options: Any) -> Any:
    """Returns an embedding of given vectors.

    Args:
        cls: The class.
        embeddings: The vectors, of shape (num_embeddings, embedding_dim).
        freeze: Whether they are not to be trained.
        options: What the constructor takes beside these.
    """
    if embeddings.dim() != 2:
        raise AssertionError("Embeddings parameter is expected to be 2-dimensional")
    rows, columns = embeddings.shape
    made = cls(rows, columns, _weight=embeddings, **options)
    made.weight.requires_grad_(not freeze)
    return made


EXTRAS: dict[str, dict[str, Any]] = {
    "torch.nn.Transformer": {
        "generate_square_subsequent_mask": staticmethod(_generate_square_subsequent_mask)
    },
    "torch.nn.RNN": {"all_weights": property(_all_weights)},
    "torch.nn.LSTM": {"all_weights": property(_all_weights)},
    "torch.nn.GRU": {"all_weights": property(_all_weights)},
    "torch.nn.Embedding": {"from_pretrained": classmethod(_from_pretrained)},
    "torch.nn.EmbeddingBag": {"from_pretrained": classmethod(_from_pretrained)},
}
"""By class: attributes and methods to add."""

MEMBER_ARGUMENTS: dict[str, dict[str, tuple[int, str]]] = {
    "torch.nn.TransformerEncoder": {"encoder_layer": (0, "layers"), "norm": (2, "norm")},
    "torch.nn.TransformerDecoder": {"decoder_layer": (0, "layers"), "norm": (2, "norm")},
    "torch.nn.Transformer": {"custom_encoder": (7, "encoder"), "custom_decoder": (8, "decoder")},
}
"""By class: arguments that are modules, where they stand among the positional ones, and the members
that they become."""
COPIES = frozenset({"layers"})
"""Members that are copies of an argument rather than the argument."""
