"""What a snapshot consists of."""

from dataclasses import dataclass, field
from typing import Any

import torch

Node = dict[str, Any]
Encoded = Any
"""A JSON value: a plain one as it is, anything else as an object with one telling key."""


class UnsupportedError(Exception):
    """A value has no form as data; the message says which and why."""


class Optional(dict[int, Any]):
    """Values by handle, of which a snapshot has those that have a form as data."""


@dataclass(kw_only=True)
class Snapshot:
    """A value as data.

    Attributes:
        root: The value.
        objects: What it refers to, by index.
        storages: The tensors' memory: flat or natural tensors on the CPU, by a telling name.
    """

    root: Encoded = None
    objects: list[Node] = field(default_factory=list)
    storages: dict[str, torch.Tensor] = field(default_factory=dict)
