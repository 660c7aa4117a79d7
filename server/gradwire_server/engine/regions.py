"""The memory that a session shares with its client."""

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire.v1 import values_pb2
from gradwire.v1.apart import APART
from gradwire_server.errors import GradwireError, Reason, invalid

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
"""A vector of bytes."""


class Regions:
    """The regions of one session, by number.

    Attributes:
        apart: Elements that are apart from the message in progress; see `gradwire.v1.apart`.
    """

    def __init__(self) -> None:
        self._memory: dict[int, Bytes] = {}
        self.apart: Sequence[memoryview] = ()

    def add(self, number: int, memory: mmap.mmap) -> None:
        """Holds a region; the mapping goes when nobody has a slice of it any more."""
        self._memory[number] = np.frombuffer(memory, np.uint8)

    def remove(self, number: int) -> None:
        """Forgets a region."""
        self._memory.pop(number, None)

    def clear(self) -> None:
        """Forgets all regions."""
        self._memory.clear()

    def slice(self, message: values_pb2.RegionSlice, path: str) -> Bytes:
        """Returns a part of a region as a vector of bytes.

        It is the client's memory as well and may change at any time: whoever is to rely on what it
        says makes a copy first.

        Raises:
            GradwireError: The session has no such region, or the part is not within it.
        """
        begin, size = message.offset, message.size_bytes
        if message.region == APART and 0 <= begin < len(self.apart):
            elements = np.frombuffer(self.apart[begin], np.uint8)
            if len(elements) == size:
                return elements
        memory = self._memory.get(message.region)
        if memory is None:
            raise GradwireError(
                Reason.REGION_NOT_FOUND,
                f"{path}.region: the session shares no region {message.region}; CreateRegion makes "
                "one, and it lasts as long as the connection that fetched its memory.",
                metadata={"region": str(message.region)},
            )
        # Each by itself, for their sum may be beyond int64 in other languages' eyes.
        if begin < 0 or size < 0 or begin > len(memory) or size > len(memory) - begin:
            raise invalid(
                path,
                f"bytes {begin} to {begin + size} are not within region {message.region}, which "
                f"has {len(memory)}",
            )
        return memory[begin : begin + size]


NO_REGIONS = Regions()
"""Those of values that belong to no session."""
