"""Keeps torch's compiler, which is large, out of processes that compile nothing themselves.

Some methods of torch must not be traced by the compiler. Torch loads all of it to say so when one
of them is first called, which takes a second and 50 MB.
"""

from typing import Any

from torch.optim import Optimizer

_UNTRACED: tuple[Any, ...] = (
    Optimizer.add_param_group,
    Optimizer.load_state_dict,
    Optimizer.state_dict,
    Optimizer.zero_grad,
)
"""The methods of torch that sessions call often."""


def call_untraced_methods_as_they_are() -> None:
    """Lets torch call these methods without loading its compiler, see `torch._disable_dynamo`."""
    for method in _UNTRACED:
        plain = method.__wrapped__
        # Where torch keeps what the compiler made of the method.
        setattr(plain, "__dynamo_disable", plain)  # a name like this would be mangled
