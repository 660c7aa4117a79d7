"""``torch.cuda`` as far as programs ask it what there is."""

from typing import Any

from gradwire.connection import current_session
from gradwire.cuda import amp as amp
from gradwire.random import DefaultGenerator
from gradwire.random import manual_seed as _manual_seed


def is_available() -> bool:
    """Returns whether the session runs on a CUDA device."""
    return current_session().device.startswith("cuda")


def device_count() -> int:
    """Returns the number of CUDA devices of the session: a session has one or none."""
    return int(is_available())


def current_device() -> int:
    """Returns the index of the session's CUDA device.

    Raises:
        RuntimeError: The session runs on a CPU.
    """
    kind, _, index = current_session().device.partition(":")
    if kind != "cuda":
        raise RuntimeError("the session runs on a CPU; no CUDA device is available")
    return int(index or 0)


def synchronize(device: Any = None) -> None:  # noqa: ARG001
    """Waits until everything recorded was carried out."""
    current_session().flush()


def manual_seed(seed: int) -> DefaultGenerator:
    """Seeds the session's random numbers."""
    return _manual_seed(seed)


manual_seed_all = manual_seed


def empty_cache() -> None:
    """Does nothing: the memory of the server is the server's affair."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """Does nothing: the memory of the server is the server's affair."""


def is_bf16_supported() -> bool:
    """Returns whether there is a device that computes in bfloat16."""
    return is_available()
