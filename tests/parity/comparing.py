"""Runs a program with local torch and on a server, and compares what it prints and returns."""

import contextlib
import io
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

import gradwire

SEED = 0


def assert_same(program: Callable[[Any], Any]) -> None:
    """Asserts that a program does with gradwire what it does with torch, to the last bit.

    Args:
        program: Takes the module that it is to know as ``torch``; may print, and returns what is
            to be compared: tensors, numbers, strings, and structures of them.
    """
    local, local_text = _run(program, torch)
    remote, remote_text = _run(program, gradwire)
    assert remote_text == local_text
    assert comparable(remote) == comparable(local)


def assert_raises_the_same(program: Callable[[Any], Any]) -> None:
    """Asserts that a program raises the class of exception that it raises with torch.

    The message must contain torch's.
    """
    local = _exception(program, torch)
    remote = _exception(program, gradwire)
    assert isinstance(remote, type(local)), repr(remote)
    assert str(local.args[0]) in str(remote)


def _run(program: Callable[[Any], Any], module: ModuleType) -> tuple[Any, str]:
    module.manual_seed(SEED)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        result = program(module)
    return result, output.getvalue()


def _exception(program: Callable[[Any], Any], module: ModuleType) -> Exception:
    module.manual_seed(SEED)
    try:
        program(module)
    except Exception as error:  # noqa: BLE001  # what it is, is the question
        return error
    raise AssertionError(f"nothing was raised with {module.__name__}")


def comparable(value: Any) -> Any:
    """Returns a value in a form in which equal means equal to the last bit."""
    if isinstance(value, torch.Tensor | gradwire.Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, Mapping):
        return {key: comparable(element) for key, element in value.items()}
    if isinstance(value, tuple | list):
        name = type(value).__name__
        return (name, *[comparable(element) for element in value])
    if isinstance(value, float):
        return float(value).hex()
    if value is None or isinstance(value, bool | int | str | complex):
        return (type(value).__name__, value)
    return repr(value)


def _tensor(value: Any) -> Any:
    detached = value.detach()
    if str(value.dtype) in ("torch.bfloat16", "torch.float8_e4m3fn", "torch.float8_e5m2"):
        detached = detached.float()
    array = detached.numpy()
    return (
        *("tensor", repr(value.dtype), tuple(value.shape), value.requires_grad),
        np.ascontiguousarray(array).tobytes(),
    )
