"""What a recorded step computes, next to what torch computes."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from gradwire_server.engine.compiling.capture import Captured
from gradwire_server.engine.compiling.recording import layout_of
from gradwire_server.engine.compiling.watched import same_elements
from gradwire_server.engine.spent import Spent


def pairs(
    captured: Captured,
    inputs: Sequence[Any],
    outputs: Sequence[torch.Tensor],
    wanted: Sequence[Any],
    copies: dict[int, torch.Tensor],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields the tensors that a step made or changed, each with what torch made of it."""
    for tensor in captured.mutated:
        yield copies[tensor.data_ptr()], tensor
    for value, expected in zip(captured.results(inputs, outputs), wanted, strict=True):
        if isinstance(expected, torch.Tensor):
            yield value.elements if isinstance(value, Spent) else value, expected
    for parameter, index in captured.gradients:
        if index is not None:
            assert parameter.grad is not None
            yield outputs[index], parameter.grad


def require_close(value: torch.Tensor, expected: torch.Tensor) -> None:
    """Raises AssertionError unless two tensors are close by torch's tolerances."""
    torch.testing.assert_close(value, expected, equal_nan=True)


def require_same(value: torch.Tensor, expected: torch.Tensor) -> None:
    """Raises AssertionError unless two tensors are the same, and lie the same way in memory."""
    if value.dtype != expected.dtype or layout_of(value) != layout_of(expected):
        raise AssertionError(f"{_form(value)} where torch makes {_form(expected)}")
    if not same_elements(value, expected):
        raise AssertionError(f"other elements in a tensor of {_form(expected)}")


def _form(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)}, strides {tensor.stride()}, {tensor.dtype}"
