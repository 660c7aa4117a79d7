"""What failures of a file system or an object store are to the caller."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from gradwire_server.errors import GradwireError, Reason

log = structlog.get_logger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_failures(action: str, name: str, *, may_be_missing: bool = False) -> Iterator[None]:
    """Turns what the storage raises into errors of the catalog.

    Args:
        action: What was tried, such as ``write``.
        name: The object it was tried on.
        may_be_missing: Whether a `FileNotFoundError` passes, because what a missing object means is
            for the caller to say. Else it is a folder or bucket that is missing.

    Raises:
        GradwireError: STORAGE_FULL if there is no space left, else STORAGE_FAILED.
    """
    try:
        yield
    except GradwireError:
        raise
    except Exception as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        # Stores raise what their client libraries raise, which need not be an OSError.
        log.warning("storage failed", action=action, object=name, exc_info=error)
        raise _failure(error, action, name) from error


def storage_full(name: str, num_bytes: int, free_bytes: int) -> GradwireError:
    """Returns the error for an object that there is no space for."""
    return GradwireError(
        Reason.STORAGE_FULL,
        f"{name} needs {num_bytes} bytes, but the server's storage has {free_bytes} left; delete "
        "datasets or checkpoints, or give the server a larger storage",
        metadata={"needed_bytes": str(num_bytes), "free_bytes": str(free_bytes)},
    )


def _failure(error: Exception, action: str, name: str) -> GradwireError:
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return GradwireError(
            Reason.STORAGE_FULL,
            f"the server's storage is full: it could not {action} {name}; delete datasets or "
            "checkpoints, or give the server a larger storage",
        )
    # The names of folders, buckets and hosts are for the log: the caller can't do anything there.
    if isinstance(error, PermissionError):
        why = "permission denied"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    else:
        why = type(error).__name__
    return GradwireError(
        Reason.STORAGE_FAILED,
        f"the server's storage refused to {action} {name}: {why}; its log has the details",
    )
