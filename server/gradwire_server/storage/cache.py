"""Copies of remote objects on the local disk, so that they can be mapped into memory."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from gradwire_server.storage.local import make_folder, scratch_file


class Cache:
    """A folder of copies, the least recently used of which go when it grows too large.

    Several processes may share the folder. A copy that goes while it is mapped stays readable
    for those that have mapped it.

    Args:
        folder: Where the copies are.
        scratch: Where they are while they are incomplete; on the same file system.
        max_bytes: How much they may take; a single larger object is kept alone.
    """

    def __init__(self, folder: Path, *, scratch: Path, max_bytes: int) -> None:
        self._folder = folder
        self._scratch = scratch
        self._max_bytes = max_bytes

    def get(self, key: str, make: Callable[[Path], None]) -> Path:
        """Returns a copy, which is made if there is none.

        Args:
            key: Says what it is a copy of, and of which contents.
            make: Writes it to a path.
        """
        path = self._folder / hashlib.sha256(key.encode()).hexdigest()
        try:
            os.utime(path)
        except FileNotFoundError:
            make_folder(self._folder)
            with scratch_file(self._scratch) as copy:
                make(copy)
                self._make_room(copy.stat().st_size)
                copy.replace(path)
        return path

    def _make_room(self, num_bytes: int) -> None:
        copies = []
        for path in self._folder.iterdir():
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            copies.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total + num_bytes <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
