"""Names of sessions and of what is in them."""

import re
import secrets
import string

from gradwire_server.errors import GradwireError, Reason, invalid

_ALPHABET = string.ascii_lowercase + string.digits
_ID_LENGTH = 26
_NAME = re.compile(r"(sessions/[a-z0-9]{1,63})(/.*)?", re.DOTALL)


def make_session_name() -> str:
    """Returns a new name, ``sessions/{id}``.

    Who knows the name may use the session, so the id carries 134 random bits.
    """
    return "sessions/" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def session_part(name: str) -> str:
    """Returns the name of the session that a resource is in.

    Args:
        name: ``sessions/{session}``, or the name of something below it.

    Raises:
        GradwireError: INVALID_REQUEST if it is neither.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        if not name:
            raise invalid("name", "is required: sessions/{session}, or a resource below it")
        raise invalid(
            "name", f'"{name[:200]}" is not of the form sessions/{{session}}[/models/{{model}}]'
        )
    return match[1]


def session_not_found(name: str) -> GradwireError:
    """Returns the error for a session that does not exist, or does not any more."""
    return GradwireError(
        Reason.SESSION_NOT_FOUND,
        f"There is no session {name}: it was deleted, it had no command for so long that it "
        "expired, or the server ended without time to keep it. Create a new one with "
        "CreateSession.",
        metadata={"session": name},
    )


def session_lost(name: str, worker: str) -> GradwireError:
    """Returns the error for a session whose worker died."""
    return GradwireError(
        Reason.SESSION_LOST,
        f"The worker that held {name} died ({worker}), and the session's models, optimizers and "
        "values are gone. Create a new session and build them again.",
        metadata={"session": name, "worker": worker},
    )
