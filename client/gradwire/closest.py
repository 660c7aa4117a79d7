"""Errors about names that do not exist, with the closest ones that do."""

import difflib
from collections.abc import Iterable
from typing import Any

from gradwire.left_out import LEFT_OUT


def missing_attribute(
    owner: str, name: str, known: Iterable[str], obj: Any, *, prefix: str = ""
) -> AttributeError:
    """Returns the error for an attribute that does not exist.

    Args:
        owner: What it was looked for in, such as ``module 'gradwire.nn'``.
        name: Its name.
        known: The names that exist.
        obj: What it was looked for in.
        prefix: What that is called in torch, if it is a module.
    """
    instead = LEFT_OUT.get(f"{prefix}.{name}")
    if instead is not None:
        message = f"gradwire has no {prefix}.{name}: {instead}"
        return AttributeError(message, name=name, obj=obj)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close and not name.startswith("_") else ""
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name, obj=obj)
