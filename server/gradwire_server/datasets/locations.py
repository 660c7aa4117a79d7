"""Where files may be read: under the prefixes that the settings allow, and nowhere else."""

import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.storage.failures import storage_failures

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A file that may be read.

    Attributes:
        uri: As it was asked for.
        version: Changes when the file does.
        num_bytes: Its size.
        path: The file, if it is on the local disk.
        download: Copies it to a path, if it is not.
    """

    uri: str
    version: str
    num_bytes: int
    path: Path | None = None
    download: Callable[[Path], None] | None = None


def locate(uri: str, allowed_prefixes: Sequence[str], field: str) -> Location:
    """Returns a file that a caller asked for.

    Args:
        uri: An absolute path, or a URL that fsspec knows.
        allowed_prefixes: Folders, or URLs of such.
        field: The request field it came in, for errors.

    Raises:
        GradwireError: URI_NOT_ALLOWED, also for a symbolic link that leads out of what is allowed;
            FILE_NOT_FOUND; STORAGE_FAILED.
    """
    scheme, rest = _split(uri)
    # A chain of file systems, such as `zip::file://`, could wrap what is not allowed.
    if "::" in uri or not uri.isprintable() or ".." in rest.split("/"):
        raise _not_allowed(uri, field)
    if scheme == "file":
        return _locate_local(uri, rest, allowed_prefixes, field)
    return _locate_remote(uri, scheme, rest, allowed_prefixes, field)


def _locate_local(uri: str, rest: str, prefixes: Sequence[str], field: str) -> Location:
    if not rest.startswith("/"):
        raise invalid(field, f'"{uri[:200]}" is neither an absolute path nor a URL')
    path = Path(rest).resolve()
    folders = [Path(folder) for kind, folder in map(_split, prefixes) if kind == "file"]
    if not any(path.is_relative_to(folder.expanduser().resolve()) for folder in folders):
        raise _not_allowed(uri, field)
    try:
        with storage_failures("read", uri, may_be_missing=True):
            status = path.stat()
    except FileNotFoundError:
        raise _not_found(uri) from None
    if not stat.S_ISREG(status.st_mode):
        raise invalid(field, f'"{uri[:200]}" is not a file')
    return Location(
        uri=uri,
        version=f"{path} {status.st_size} {status.st_mtime_ns}",
        num_bytes=status.st_size,
        path=path,
    )


def _locate_remote(
    uri: str, scheme: str, rest: str, prefixes: Sequence[str], field: str
) -> Location:
    parts = rest.split("/")
    allowed = [
        folder.rstrip("/").split("/") for kind, folder in map(_split, prefixes) if kind == scheme
    ]
    plain = all(part not in {"", "."} for part in parts) and not set("?#%\\") & set(rest)
    if not plain or not any(parts[: len(folder)] == folder for folder in allowed):
        raise _not_allowed(uri, field)
    try:
        with storage_failures("read", uri, may_be_missing=True):
            fs, path = fsspec.url_to_fs(uri)
            fs.invalidate_cache()
            info = fs.info(path)
            version = str(fs.ukey(path))
    except FileNotFoundError:
        raise _not_found(uri) from None
    if info["type"] != "file":
        raise invalid(field, f'"{uri[:200]}" is not a file')

    def download(target: Path) -> None:
        with storage_failures("read", uri, may_be_missing=True):
            fs.get_file(path, str(target))

    return Location(
        uri=uri,
        version=f"{uri} {version}",
        num_bytes=_size(info),
        download=download,
    )


def _size(info: dict[str, Any]) -> int:
    """Returns the size of a remote file; some servers do not tell it."""
    return int(info["size"] or 0)


def _split(uri: str) -> tuple[str, str]:
    """Returns the scheme, and what follows it."""
    match = _URL.fullmatch(uri)
    if match is None:
        return "file", uri
    return ("file" if match[1] == "local" else match[1]), match[2]


def _not_allowed(uri: str, field: str) -> GradwireError:
    text = (
        f'"{uri[:200]}" is not below a folder that this server may read; its setting '
        "allowed_data_prefixes says which those are"
    )
    return GradwireError(Reason.URI_NOT_ALLOWED, f"{field}: {text}", fields=[(field, text)])


def _not_found(uri: str) -> GradwireError:
    return GradwireError(
        Reason.FILE_NOT_FOUND, f'There is no file "{uri[:200]}".', metadata={"uri": uri[:200]}
    )
