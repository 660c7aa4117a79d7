"""The sessions in use, and which of them operations go to."""

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwire.session import Session

sessions_lock = threading.RLock()
_sessions: "list[Session]" = []


def get_session() -> "Session | None":
    """Returns the session that operations go to, or None if there is none yet."""
    return _sessions[-1] if _sessions else None


def push_session(session: "Session") -> None:
    """Makes a session the one that operations go to."""
    with sessions_lock:
        remove_session(session)
        _sessions.append(session)


def remove_session(session: "Session") -> None:
    """Takes a session out of use; the one that was current before it is current again."""
    with sessions_lock:
        if session in _sessions:
            _sessions.remove(session)


# In a forked child the sessions are the parent's; the child's first use connects anew.
os.register_at_fork(after_in_child=_sessions.clear)
