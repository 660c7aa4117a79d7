"""What the client knows of a value that lives on the server."""

from typing import TYPE_CHECKING, Any

from gradwire.errors import GradwireError

if TYPE_CHECKING:
    from gradwire.session import Session

PENDING = 0
FAILED = -1


class Slot:
    """One value of a session.

    Attributes:
        session: The session it belongs to.
        handle: Its handle; PENDING while the operation that makes it is only recorded; FAILED if
            it was never made.
        index: While pending: the operation's index on the tape.
        alive: Whether the program can still reach it.
        error: Why it was never made, if it failed.
        info: Its description, as far as the client knows it.
    """

    __slots__ = ("alive", "error", "handle", "index", "info", "session")

    def __init__(self, session: "Session", handle: int, index: int) -> None:
        self.session = session
        self.handle = handle
        self.index = index
        self.alive = True
        self.error: GradwireError | None = None
        self.info: Any = None


class Remote:
    """Base of everything that stands for a value on the server, and keeps it alive there."""

    _slot: Slot

    def __del__(self) -> None:
        # Runs at any time, on any thread: nothing here but what is atomic.
        slot = self.__dict__.get("_slot")
        if slot is not None:
            slot.alive = False
            if slot.handle > 0:
                slot.session.dead_handles.append(slot.handle)
