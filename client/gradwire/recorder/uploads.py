"""What was sent before: arrays that have not changed since are not sent again.

The session keeps a copy of a large array for as long as the array lives in the program. When the
same object is sent once more, its contents are hashed again; only if the hash is that of what was
sent does the server make the new tensor of its own copy. The server shares the memory of such
copies until one of them is written to.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import numpy as np
from xxhash import xxh3_128_digest

from gradwire.recorder.slots import FAILED, Slot
from gradwire.recorder.transfers import LARGE_BYTES

if TYPE_CHECKING:
    from gradwire.session import Session

MAX_BYTES = 512 << 20
"""How many bytes of arrays a session keeps for this; the least recently sent are forgotten."""

SESSION_SHARE = 8
"""At most this part of what a session may hold is kept for this."""


class _Sent(NamedTuple):
    """An array that was sent.

    Attributes:
        source: The object that the program sent.
        key: What its elements were: a hash, shape and type. XXH3 of 128 bits: the only one whom a
            collision could hurt is the program itself, and it would have to look for it.
        slot: The server's copy.
        num_bytes: How large it is.
    """

    source: "ref[Any]"
    key: tuple[bytes, tuple[int, ...], str]
    slot: Slot
    num_bytes: int


class Uploads:
    """The arrays of one session that are kept on the server.

    Args:
        session: The session.
        max_session_bytes: How many bytes the session may hold.
    """

    def __init__(self, session: "Session", max_session_bytes: int) -> None:
        self._session = session
        self._max_bytes = min(MAX_BYTES, max_session_bytes // SESSION_SHARE)
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._num_bytes = 0

    def find(self, source: Any, array: "np.ndarray[Any, Any]") -> tuple[int, bool] | None:
        """Returns a handle for the server's copy of an array; None if there is to be none.

        Args:
            source: The object that the program sends.
            array: Its elements.

        Returns:
            The handle, and whether the server has the copy already: else it is to be sent.
        """
        if not LARGE_BYTES <= array.nbytes <= self._max_bytes or not array.flags.c_contiguous:
            return None
        try:
            ref(source)
        except TypeError:
            # A list, such as nobody can be told of its end.
            return None
        hashed = xxh3_128_digest(array.reshape(-1).view(np.uint8).data)
        key = (hashed, array.shape, array.dtype.str + array.dtype.name)
        sent = self._sent.get(id(source))
        if sent is not None:
            if sent.source() is source and sent.key == key and sent.slot.handle != FAILED:
                self._sent.move_to_end(id(source))
                return sent.slot.handle, True
            self._forget(id(source))
        slot = Slot(self._session, self._session.new_handle(), 0)
        # Anybody's last reference may go at any time, on any thread: nothing but what is atomic.
        gone = ref(source, lambda _: _release(slot))
        self._sent[id(source)] = _Sent(gone, key, slot, array.nbytes)
        self._num_bytes += array.nbytes
        self._shrink()
        return slot.handle, False

    def slot(self, source: Any) -> Slot:
        """Returns the slot of the server's copy of an array that `find` has just told of."""
        return self._sent[id(source)].slot

    def _shrink(self) -> None:
        """Forgets what is dead, and then the least recently sent, until what is left fits."""
        if self._num_bytes <= self._max_bytes:
            return
        for key in [key for key, sent in self._sent.items() if sent.source() is None]:
            self._forget(key)
        while self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._sent)))

    def _forget(self, key: int) -> None:
        sent = self._sent.pop(key)
        self._num_bytes -= sent.num_bytes
        _release(sent.slot)


def _release(slot: Slot) -> None:
    """Lets the server forget a copy, once."""
    if slot.alive:
        slot.alive = False
        if slot.handle > 0:
            slot.session.dead_handles.append(slot.handle)
