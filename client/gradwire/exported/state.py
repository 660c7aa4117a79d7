"""What a module's forward changes in the module itself, while it is captured."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gradwire.errors import CaptureError


@contextmanager
def keeping_state(module: torch.nn.Module) -> Iterator[list[str]]:
    """Lets a module run once, and leaves it as it was.

    A buffer that is replaced by another tensor is written to instead, which `torch.export` sees.

    Yields:
        The names of attributes that were changed and that a graph can't change, once it has run.

    Raises:
        CaptureError: A buffer was replaced by a tensor of another shape or type.
    """
    buffers = [
        (f"{path}.{name}" if path else name, child, name, buffer)
        for path, child in module.named_modules()
        for name, buffer in child._buffers.items()
        if buffer is not None
    ]
    attributes = [
        (f"{path}.{name}" if path else name, child, name, value)
        for path, child in module.named_modules()
        for name, value in vars(child).items()
        if name != "training" and (value is None or isinstance(value, _TRACKED))
    ]
    changed: list[str] = []
    try:
        yield changed
        for path, child, name, before in buffers:
            after = child._buffers.get(name)
            if after is not before:
                _write(before, after, f"{path} of {type(module).__name__}")
    finally:
        for _, child, name, before in buffers:
            child._buffers[name] = before
        for path, child, name, value in attributes:
            now = vars(child).get(name)
            if now is value:
                continue
            if isinstance(now, torch.Tensor) or (isinstance(now, _NUMBERS) and now != value):
                changed.append(path)
            vars(child)[name] = value


def _write(before: torch.Tensor, after: torch.Tensor | None, path: str) -> None:
    if after is None or after.shape != before.shape or after.dtype != before.dtype:
        raise CaptureError(
            f"the buffer {path} is replaced by one of another shape or type; that can't be "
            "captured. Write into it, and have it large enough."
        )
    with torch.no_grad():
        before.copy_(after)


_NUMBERS = (bool, int, float)
_TRACKED = (torch.Tensor, *_NUMBERS)
