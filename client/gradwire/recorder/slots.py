"""What the client knows of a value that lives on the server."""

from typing import TYPE_CHECKING, Any, NoReturn

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
        index: The index of the operation that makes it, in its program.
        alive: Whether the program can still reach it.
        info: Its description, as far as the client knows it.
    """

    __slots__ = ("_error", "alive", "handle", "index", "info", "session")

    def __init__(self, session: "Session", handle: int, index: int, alive: bool = True) -> None:
        self.session = session
        self.handle = handle
        self.index = index
        self.alive = alive
        self.info: Any = None
        self._error: GradwireError | None = None

    def fail(self, error: GradwireError) -> None:
        """Marks the value as one that was never made, because of `error`."""
        if self.handle > 0 and self.alive:
            self.session.dead_handles.append(self.handle)
        self.handle = FAILED
        self._error = error

    def raise_failure(self) -> NoReturn:
        """Raises why the value was never made."""
        error = self._error
        assert error is not None
        raise error.because("this value was never computed, because of an earlier error") from error


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


def remote_of(value: Any) -> Any:
    """Returns what stands for a value on the server: itself, a module's or optimizer's; or None."""
    if isinstance(value, Remote):
        return value
    getter = getattr(value, "__gradwire_remote__", None)
    return None if getter is None else getter()
