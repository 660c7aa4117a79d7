"""Settings that torch keeps for a process: here they are the current session's."""

from typing import Any

from gradwire.connection import current_session
from gradwire.recorder.contexts import Context
from gradwire.types import DTYPES, device, dtype

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": float("inf"), "edgeitems": 3, "linewidth": 80},
}


def get_default_dtype() -> dtype:
    """Returns the element type of tensors made of Python floats; float32 unless it was set."""
    return current_session().default_dtype


def set_default_dtype(d: dtype) -> None:
    """Sets the element type of tensors made of Python floats, and of new parameters.

    Raises:
        TypeError: It is not a floating point type.
    """
    if not getattr(d, "is_floating_point", False):
        raise TypeError("only floating-point types are supported as the default type")
    session = current_session()
    session.default_dtype = d
    is_default = d is DTYPES["float32"]
    session.set_outermost_context(None if is_default else Context("gradwire.default_dtype", (d,)))


def set_default_device(device_name: "device | str | None") -> None:
    """Checks that the device is the session's: new tensors are there anyway.

    Raises:
        NotImplementedError: It is another one.
    """
    if device_name is not None and device(device_name).type != get_default_device().type:
        raise NotImplementedError(
            f"tensors of this session are on {current_session().device}; connect to a server "
            f"with {device_name} to have them there"
        )


def get_default_device() -> device:
    """Returns the session's device."""
    return device(current_session().device)


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors of the current session print.

    Args:
        precision: Digits after the point.
        threshold: How many elements are printed in full at most.
        edgeitems: How many are printed at each end otherwise.
        linewidth: Characters of a line.
        profile: ``default``, ``short`` or ``full``: values for all of these.
        sci_mode: Whether to use scientific notation; by default that depends on the numbers.
    """
    options = current_session().print_options
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"{profile!r} is no profile; {', '.join(_PROFILES)} are")
        options.clear()
        if profile != "default":
            options.update(_PROFILES[profile])
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    options.update({name: value for name, value in given.items() if value is not None})
    options.pop("sci_mode", None)
    if sci_mode is not None:
        options["sci_mode"] = sci_mode


_float32_matmul_precision = "highest"
_deterministic = False


def set_float32_matmul_precision(precision: str) -> None:
    """Takes note of a precision; the server multiplies at the highest one in any case."""
    global _float32_matmul_precision  # noqa: PLW0603  # torch has one a process
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"{precision!r} is no precision; highest, high and medium are")
    _float32_matmul_precision = precision


def get_float32_matmul_precision() -> str:
    """Returns what was set."""
    return _float32_matmul_precision


def use_deterministic_algorithms(mode: bool, **_: bool) -> None:
    """Takes note of the wish; which algorithms there are is the server's affair."""
    global _deterministic  # noqa: PLW0603
    _deterministic = mode


def are_deterministic_algorithms_enabled() -> bool:
    """Returns what was set."""
    return _deterministic


def set_num_threads(num: int) -> None:
    """Does nothing: the server's settings say how many threads a worker has."""


set_num_interop_threads = set_num_threads


def get_num_threads() -> int:
    """Returns the number of threads of the session's worker."""
    return current_session().num_threads


def is_storage(obj: Any) -> bool:  # noqa: ARG001
    """Returns False: the memory of tensors is the server's."""
    return False


def compile(model: Any = None, **_: Any) -> Any:
    """Returns its argument: how recorded operations run is the server's affair."""
    return (lambda wrapped: wrapped) if model is None else model
