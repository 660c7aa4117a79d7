"""Packages that only some programs need, each with the extra of gradwire that installs it."""

import importlib
from typing import Any


def import_extra(module: str, extra: str) -> Any:
    """Returns a module that an extra installs.

    Args:
        module: The module.
        extra: The extra, such as ``plot``.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ModuleNotFoundError(
            f"{package} is not installed; pip install 'gradwire[{extra}]'", name=error.name
        ) from error
