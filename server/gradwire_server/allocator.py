"""How the C library's allocator, glibc's, is to treat memory that was freed."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of `mallopt(3)`."""

KEPT_BYTES = 32 * 1024 * 1024
"""So much free memory a process keeps to use again."""
HEAP_BYTES = 8 * 1024 * 1024
"""What is smaller comes from the memory that is kept."""


def keep_freed_memory() -> None:
    """Lets this process keep some of what it frees; elsewhere than with glibc it does nothing.

    By default each message of a MiB is given back to the system when it is freed, and its pages are
    faulted in and zeroed anew for the next one, which takes longer than all copies of it together.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, HEAP_BYTES)
