"""Compression of tensors on their way, if the user asks for it and the package is there."""

import importlib
from typing import Any

COMPRESSIONS = ("zstd",)
"""What `connect(compression=...)` takes."""

_LEVEL = 1
"""Fast enough to keep up with a network; higher levels gain little on tensors."""


class Compression:
    """Zstandard, RFC 8878.

    Raises:
        ImportError: The package is not installed.
    """

    def __init__(self) -> None:
        try:
            self._zstd: Any = importlib.import_module("zstandard")
        except ImportError:
            raise ImportError(
                "compression needs the package zstandard: pip install 'gradwire[zstd]'"
            ) from None
        self.name = "zstd"
        self._compressor = self._zstd.ZstdCompressor(level=_LEVEL)

    @classmethod
    def of(cls, name: str | None) -> "Compression | None":
        """Returns the compression of that name; None for none.

        Raises:
            ValueError: There is none of that name.
            ImportError: Its package is not installed.
        """
        if name is None:
            return None
        if name not in COMPRESSIONS:
            raise ValueError(f"compression {name!r} is none of {', '.join(COMPRESSIONS)}")
        return cls()

    def compress(self, elements: memoryview) -> bytes:
        """Returns bytes as one frame."""
        compressed: bytes = self._compressor.compress(elements)
        return compressed

    def decompress(self, frame: bytes, into: memoryview) -> None:
        """Decompresses a frame into memory of exactly the right size.

        Raises:
            ValueError: It is no frame, or has another size.
        """
        filled = 0
        try:
            with self._zstd.ZstdDecompressor().stream_reader(frame) as reader:
                while filled < len(into) and (count := reader.readinto(into[filled:])):
                    filled += count
        except self._zstd.ZstdError as error:
            raise ValueError(f"the server sent what is no Zstandard frame: {error}") from None
        if filled < len(into):
            raise ValueError(f"the server sent {filled} bytes of a tensor of {len(into)}")
