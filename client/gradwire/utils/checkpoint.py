"""``torch.utils.checkpoint``: the same results; what it would save is the server's memory."""

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["checkpoint", "checkpoint_sequential"]

_OPTIONS = frozenset(
    {
        *("use_reentrant", "context_fn", "determinism_check", "debug", "early_stop"),
        "preserve_rng_state",
    }
)
"""How torch calls the function again, which is not done here."""


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function; unlike torch, backward finds what it saved rather than calling it again.

    The values, the gradients and the random numbers are those of torch.

    Args:
        function: What to call.
        args: Its arguments.
        kwargs: Its keyword arguments, and torch's options, such as ``use_reentrant``, which have no
            effect.
    """
    return function(*args, **{k: v for k, v in kwargs.items() if k not in _OPTIONS})


def checkpoint_sequential(
    functions: Iterable[Callable[[Any], Any]],
    segments: int,  # noqa: ARG001  # torch's signature
    input: Any,
    **options: Any,
) -> Any:
    """Calls functions one after the other, each with what the one before returned.

    Args:
        functions: What to call, such as an ``nn.Sequential``.
        segments: Without effect, as `checkpoint` calls nothing again.
        input: What the first one gets.
        options: ``use_reentrant`` and ``preserve_rng_state``, without effect.

    Raises:
        ValueError: An option that torch does not have.
    """
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise ValueError(f"Unexpected keyword arguments: {','.join(sorted(unknown))}")
    for function in functions:
        input = function(input)
    return input
