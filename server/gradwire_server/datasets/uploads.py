"""Uploads: data that is arriving, kept on the local disk until all of it is there."""

import hashlib
import threading
from pathlib import Path
from typing import Any

from gradwire_server.datasets.store import Contents
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.storage import Storage
from gradwire_server.storage.failures import storage_failures
from gradwire_server.storage.local import make_folder, remove_forgotten

_CHUNK_BYTES = 1024 * 1024


class Upload:
    """One dataset's data, as far as it has arrived. All methods block.

    The file already is what will be stored: the header is written first, the data follows. An
    upload of the same contents finds it, also after a restart of the server.

    Args:
        name: `datasets/{dataset}`.
        contents: What is announced.
        folder: Where the file is.

    Attributes:
        name: As given.
        contents: As given.
        path: The file.
        stored_bytes: How much of the data has arrived.
    """

    def __init__(self, name: str, contents: Contents, folder: Path) -> None:
        self.name = name
        self.contents = contents
        self.path = folder / contents.key
        self._header = contents.schema.header()
        with storage_failures("write", name):
            make_folder(folder)
            size = self.path.stat().st_size if self.path.exists() else 0
            if size < len(self._header):
                try:
                    self.path.write_bytes(self._header)
                except OSError:
                    self.path.unlink(missing_ok=True)
                    raise
                size = len(self._header)
        self.stored_bytes = size - len(self._header)
        self._hash: Any = None
        # Two calls may bring the same data at once: the first one's connection broke unnoticed.
        self._lock = threading.Lock()

    @property
    def complete(self) -> bool:
        """Whether all has arrived."""
        return self.stored_bytes == self.contents.schema.data_bytes

    def add(self, offset: int, data: bytes) -> None:
        """Adds a piece; of what is stored already the first copy stays.

        Args:
            offset: Where in the data it begins.
            data: The bytes.

        Raises:
            GradwireError: There is a gap before it, it goes beyond the end, or the storage fails,
                after which nothing is left of the upload.
        """
        with self._lock:
            self._add(offset, data)

    def _add(self, offset: int, data: bytes) -> None:
        if not 0 <= offset <= self.stored_bytes:
            raise GradwireError(
                Reason.OUT_OF_ORDER,
                f"offset {offset} is beyond the {self.stored_bytes} bytes that are stored; go on "
                "from there",
                metadata={"stored_bytes": str(self.stored_bytes)},
            )
        total = self.contents.schema.data_bytes
        if offset + len(data) > total:
            raise invalid("data", f"goes beyond the {total} bytes that were announced")
        fresh = memoryview(data)[self.stored_bytes - offset :]
        if not fresh:
            return
        if self._hash is None:
            self._hash = self._hash_of_stored()
        try:
            with storage_failures("write", self.name), self.path.open("ab") as file:
                file.write(fresh)
        except GradwireError:
            self.remove()
            raise
        self._hash.update(fresh)
        self.stored_bytes += len(fresh)

    def verify(self) -> None:
        """Checks the hash of the data once it is complete.

        Raises:
            GradwireError: It is another one; nothing is left of the upload.
        """
        if self._hash is None:
            self._hash = self._hash_of_stored()
        found = self._hash.hexdigest()
        if found != self.contents.sha256:
            self.remove()
            raise invalid(
                "content_sha256",
                f"{self.contents.sha256} was announced, but the data of {self.name} has {found}; "
                "nothing of it was kept, upload it again",
            )

    def remove(self) -> None:
        """Gives the data up."""
        self.path.unlink(missing_ok=True)
        self.stored_bytes = 0
        self._hash = None

    def _hash_of_stored(self) -> Any:
        digest = hashlib.sha256()
        with storage_failures("read", self.name), self.path.open("rb") as file:
            file.seek(len(self._header))
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest


def uploads_folder(storage: Storage, tenant: str) -> Path:
    """Returns the folder of a tenant's uploads, without those that were given up a day ago."""
    folder = storage.scratch_folder / "uploads" / tenant
    with storage_failures("clean", "unfinished uploads"):
        remove_forgotten(folder)
    return folder
