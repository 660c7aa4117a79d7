"""gradwire: PyTorch training as a service, with torch's own API.

``import gradwire as torch`` is an honest line: modules, losses, optimizers, autograd and tensor
operations have torch's names and print what torch prints, while they run in a session on a
server. No torch is needed here::

    import gradwire as torch
    import gradwire.nn as nn

    model = nn.Linear(3, 1)
    print(model(torch.randn(4, 3)))

Importing this package loads next to nothing; its members are loaded when they are first used.
"""

from typing import Any

from gradwire import attributes as _attributes

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module 'gradwire' has no attribute {name!r}")
    value = globals()[name] = _attributes.find(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_attributes.names()})
