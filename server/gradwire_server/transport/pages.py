"""Pages of lists: their sizes, and tokens that say where the next one begins."""

import base64
import binascii

from gradwire_server.errors import invalid

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_PREFIX = "after:"


def page_size(wanted: int) -> int:
    """Returns how many to return.

    Raises:
        GradwireError: INVALID_REQUEST if it is negative.
    """
    if wanted < 0:
        raise invalid("page_size", f"is {wanted}; must not be negative")
    return min(wanted or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(last: str | int) -> str:
    """Returns the token for the page after the one that ends with `last`."""
    return base64.urlsafe_b64encode(f"{_PREFIX}{last}".encode()).decode()


def after(token: str) -> str:
    """Returns what the page before ended with; "" for the first page.

    Raises:
        GradwireError: INVALID_REQUEST if it is no token.
    """
    if not token:
        return ""
    try:
        text = base64.urlsafe_b64decode(token).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if not text.startswith(_PREFIX):
        raise invalid("page_token", "is none that this method returned")
    return text.removeprefix(_PREFIX)
