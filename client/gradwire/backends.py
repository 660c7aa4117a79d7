"""``torch.backends`` as far as scripts set switches there: the rest is the server's."""

from typing import Any


class _Switches:
    """Switches that can be set and read, and change nothing.

    Args:
        switches: Their values.
    """

    def __init__(self, **switches: Any) -> None:
        self.__dict__.update(switches)


class _Absent(_Switches):
    """A backend that workers do not have."""

    def is_available(self) -> bool:
        """Returns False."""
        return False

    def is_built(self) -> bool:
        """Returns False."""
        return False


cudnn = _Switches(enabled=True, benchmark=False, deterministic=False, allow_tf32=True)
cuda = _Switches(matmul=_Switches(allow_tf32=False))
mps = _Absent()
