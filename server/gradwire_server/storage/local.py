"""Files on the local disk that appear whole or not at all."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORGOTTEN_SECONDS = 24 * 3600.0
"""A scratch file that nobody has written to for so long belongs to a process that was killed."""


@contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """Yields the path of a new file in a folder; what is left there after the block is removed."""
    make_folder(folder)
    path = folder / secrets.token_hex(16)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def remove_forgotten(folder: Path) -> None:
    """Removes scratch files that processes left behind when they were killed."""
    oldest = time.time() - FORGOTTEN_SECONDS
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:  # another process removed it
            continue


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, for this user alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def replace_durably(source: Path, target: Path) -> None:
    """Moves a file to another name of the same file system; it survives a loss of power."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    make_folder(target.parent)
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
