"""Where compiled graphs are kept: a folder of this user's, by hash."""

import os
import stat
from pathlib import Path

from gradwire_server.storage.cache import Cache

MAX_BYTES = 1024**3
"""What they may take; the ones used least recently go first."""


def packages(folder: Path) -> Cache:
    """Returns the packages in a folder."""
    return Cache(folder / "packages", scratch=folder / "scratch", max_bytes=MAX_BYTES)


def default_folder() -> Path:
    """Returns the folder of this user."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gradwire" / "compiled"


def require_private(path: Path) -> None:
    """Raises OSError if anybody else may write there: it is code to be executed."""
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} may be written by others than the user of this process")
