"""The limit on the size of requests."""

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits


def check_size(request: bytes, limits: Limits) -> None:
    """Checks a request against the limit.

    Raises:
        GradwireError: LIMIT_EXCEEDED if it is too large.
    """
    if len(request) > limits.max_message_bytes:
        limit = limits.max_message_bytes
        raise GradwireError(
            Reason.LIMIT_EXCEEDED,
            f"The message has {len(request)} bytes; the limit max_message_bytes is {limit}. "
            "Send less at once, or have the server's limit raised.",
            metadata={
                "limit": "max_message_bytes",
                "value": str(limit),
                "size": str(len(request)),
            },
        )
