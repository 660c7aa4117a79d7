"""Errors about names that do not exist, with the closest ones that do."""

import difflib
from collections.abc import Iterable
from typing import Any


def missing_attribute(owner: str, name: str, known: Iterable[str], obj: Any) -> AttributeError:
    """Returns the error for an attribute that does not exist.

    Args:
        owner: What it was looked for in, such as ``module 'gradwire.nn'``.
        name: Its name.
        known: The names that exist.
        obj: What it was looked for in.
    """
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close and not name.startswith("_") else ""
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name, obj=obj)
