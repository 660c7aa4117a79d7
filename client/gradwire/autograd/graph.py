"""``torch.autograd.graph``: nodes of the graph."""

from gradwire.methods import Node

__all__ = ["Node"]
