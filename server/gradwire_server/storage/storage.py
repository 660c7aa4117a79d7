"""The storage: objects by name under one URL, written whole or not at all."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from gradwire_server.storage.cache import Cache
from gradwire_server.storage.failures import storage_failures, storage_full
from gradwire_server.storage.local import (
    make_folder,
    remove_forgotten,
    replace_durably,
    scratch_file,
)

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+)*")
_SCRATCH = ".scratch"

_WHOLE_PUTS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss"}
"""Object stores: what is put there appears when all of it has arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Where durable data is.

    Attributes:
        url: A folder, or a URL that fsspec knows, such as ``s3://bucket/folder``.
        cache_folder: Where copies of remote objects are kept; a folder of this user if empty.
        max_cache_bytes: How much they may take.
        allowed_data_prefixes: Folders, or URLs of such, outside the storage that data may be read
            from.
    """

    url: str
    cache_folder: str = ""
    max_cache_bytes: int = 64 * 1024**3
    allowed_data_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object of the storage.

    Attributes:
        name: Its name, relative to the storage's URL.
        num_bytes: Its size.
    """

    name: str
    num_bytes: int


class Writer:
    """An object in the making, a binary file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Appends bytes; returns how many."""
        with storage_failures("write", self._name):
            return self._file.write(data)


class Storage:
    """Objects by name, such as ``datasets/digits/manifest.json``.

    A name is one or more parts of letters, digits, ``.``, ``_`` and ``-``, separated by ``/``; no
    part begins with a dot. All methods block and may be called from any thread or process.
    Failures raise `GradwireError`: STORAGE_FULL or STORAGE_FAILED; a missing object raises
    `FileNotFoundError`.

    Args:
        config: Where the objects are.

    Attributes:
        config: The same.

    Raises:
        ValueError: The URL is of a kind that fsspec does not know.
        ImportError: What fsspec needs for the URL is not installed.
    """

    def __init__(self, config: StorageConfig) -> None:
        self.config = config
        self._fs, root = fsspec.url_to_fs(_expand(config.url))
        self._is_local = "file" in _protocols(self._fs)
        self._root = root.rstrip("/")
        cache = Path(config.cache_folder) if config.cache_folder else _cache_folder(config.url)
        self._scratch = Path(self._root) / _SCRATCH if self._is_local else cache / "scratch"
        self._cache = Cache(
            cache / "copies", scratch=self._scratch, max_bytes=config.max_cache_bytes
        )

    @property
    def scratch_folder(self) -> Path:
        """A local folder, shared by all processes of the server, for data in the making."""
        with storage_failures("make", "a folder for unfinished data"):
            make_folder(self._scratch)
        return self._scratch

    @contextmanager
    def scratch_file(self) -> Iterator[Path]:
        """Yields the path of a new local file, to be filled and given to `put_file`.

        What is left there after the block is removed.
        """
        with scratch_file(self.scratch_folder) as path:
            yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Writer]:
        """Yields a file that becomes the object if the block ends well, and else leaves nothing."""
        with self.scratch_file() as path:
            with storage_failures("write", name):
                file = path.open("wb")
            try:
                yield Writer(file, name)
            finally:
                # This writes what is still in memory, so it fails where the storage is full.
                with storage_failures("write", name):
                    file.close()
            self.put_file(path, name)

    def write(self, name: str, data: bytes) -> None:
        """Stores an object; one that has the name is replaced, in one instant for all readers."""
        with self.writing(name) as file:
            file.write(data)

    def put_file(self, path: Path, name: str) -> None:
        """Makes a local file an object, as `write` does; the file is gone afterwards.

        Args:
            path: A file in `scratch_folder`.
            name: The object's name.
        """
        target = self._path(name)
        with storage_failures("write", name):
            if self._is_local:
                replace_durably(path, Path(target))
                return
            if _WHOLE_PUTS.isdisjoint(_protocols(self._fs)):
                draft = f"{self._root}/{_SCRATCH}/{secrets.token_hex(16)}"
                try:
                    self._fs.put_file(str(path), draft)
                    self._fs.mv(draft, target)
                except BaseException:
                    if self._fs.exists(draft):
                        self._fs.rm_file(draft)
                    raise
            else:
                self._fs.put_file(str(path), target)
            path.unlink()

    def read(self, name: str) -> bytes:
        """Returns all of an object."""
        with storage_failures("read", name, may_be_missing=True):
            data: bytes = self._fs.cat_file(self._path(name))
            return data

    def open(self, name: str) -> BinaryIO:
        """Returns an object as a file for reading, which may be sought in."""
        with storage_failures("read", name, may_be_missing=True):
            file: BinaryIO = self._fs.open(self._path(name), "rb")
            return file

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        with storage_failures("look for", name, may_be_missing=True):
            self._forget_listings()
            return bool(self._fs.isfile(self._path(name)))

    def size(self, name: str) -> int:
        """Returns how many bytes an object has."""
        with storage_failures("look for", name, may_be_missing=True):
            self._forget_listings()
            return int(self._fs.size(self._path(name)))

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Returns the objects whose names begin with ``prefix/``, by name; all if it is empty."""
        folder = self._path(prefix) if prefix else self._root
        with storage_failures("list", prefix or "the storage"):
            self._forget_listings()
            found = self._fs.find(folder, detail=True)
        objects = [
            StoredObject(
                name=path.removeprefix(self._root).lstrip("/"), num_bytes=int(info["size"])
            )
            for path, info in found.items()
        ]
        return [each for each in objects if _NAME.fullmatch(each.name)]

    def delete(self, name: str) -> None:
        """Removes an object; it is no error if there is none."""
        path = self._path(name)
        with storage_failures("delete", name, may_be_missing=True):
            self._forget_listings()
            if not self._fs.isfile(path):
                return
            try:
                self._fs.rm_file(path)
            except FileNotFoundError:  # another process removed it
                return
        if self._is_local:
            self._remove_empty_folders(Path(path).parent)

    def delete_all(self, prefix: str) -> None:
        """Removes the objects whose names begin with ``prefix/``."""
        for each in self.list(prefix):
            self.delete(each.name)

    def local_path(self, name: str) -> Path:
        """Returns an object as a local file, to be mapped into memory and not to be changed.

        On a local storage it is the object's own; from a remote one it is copied once into a
        cache of bounded size. Map or open it at once: a copy may go when others need room.
        """
        path = self._path(name)
        with storage_failures("read", name, may_be_missing=True):
            self._forget_listings()
            if self._is_local:
                return Path(path).resolve(strict=True)
            info = self._fs.info(path)
            if info["type"] != "file":
                raise FileNotFoundError(name)
            key = f"{self.config.url} {name} {self._fs.ukey(path)}"
            return self._cache.get(key, lambda copy: self._fs.get_file(path, str(copy)))

    def cached(self, key: str, make: Callable[[Path], None]) -> Path:
        """Returns a local file that is made once and kept as long as there is room for it.

        Args:
            key: Says what it holds: equal keys, equal contents.
            make: Writes it to a path.
        """
        return self._cache.get(key, make)

    def require_space(self, name: str, num_bytes: int) -> None:
        """Checks that an object of that size fits, as far as that can be known.

        Raises:
            GradwireError: STORAGE_FULL.
        """
        free_bytes = shutil.disk_usage(self.scratch_folder).free
        if num_bytes > free_bytes:
            raise storage_full(name, num_bytes, free_bytes)

    def require_writable(self) -> None:
        """Makes sure that unfinished data has a place, and with it a local storage all data.

        To a remote storage an empty object is written, and removed again.

        Raises:
            OSError: It has none, or the remote storage takes nothing.
        """
        with scratch_file(self._scratch) as path:
            path.touch()
        if self._is_local:
            return
        probe = self._path(f"probe-{secrets.token_hex(8)}")
        try:
            self._fs.pipe_file(probe, b"")
            self._fs.rm_file(probe)
        except Exception as error:
            # Whatever its client library raises.
            raise OSError(f"{type(error).__name__}: {error}") from error

    def clean(self) -> None:
        """Removes what processes that were killed have left unfinished, once it is a day old."""
        with storage_failures("clean", "the storage"):
            remove_forgotten(self._scratch)

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a stored object")
        return f"{self._root}/{name}"

    def _forget_listings(self) -> None:
        """Drops what fsspec remembers of folders, which other processes may have changed."""
        self._fs.invalidate_cache()

    def _remove_empty_folders(self, folder: Path) -> None:
        while folder != Path(self._root):
            try:
                folder.rmdir()
            except OSError:  # it holds something, or another process removed it
                return
            folder = folder.parent


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _expand(url: str) -> str:
    return str(Path(url).expanduser()) if url.startswith("~") else url


def _cache_folder(url: str) -> Path:
    """Returns the folder of this user for copies of what is stored at a URL."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gradwire" / hashlib.sha256(url.encode()).hexdigest()[:16]
