"""Contexts of torch that operations run under."""

from typing import Any, NamedTuple


class Context(NamedTuple):
    """A context manager of torch that operations run under, by name and arguments."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
