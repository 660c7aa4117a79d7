"""Which server process a run belongs to, and whether that process is still there.

Each server keeps a sign of life, the object ``servers/{id}``, and writes it anew every few
seconds. A run whose server has gone is taken over by another that uses the same storage: at once
if the process was on this host and is not there any more, else when its sign of life is old.
"""

import json
import os
import secrets
import socket
import time
from pathlib import Path

from gradwire_server.storage import Storage

RENEW_SECONDS = 5.0
STALE_SECONDS = 20.0


class Owner:
    """This server process.

    Args:
        storage: Where the signs of life are.
    """

    def __init__(self, storage: Storage) -> None:
        self.id = secrets.token_hex(8)
        self._storage = storage

    def renew(self) -> None:
        """Writes the sign of life; blocks."""
        fields = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "seconds": time.time(),
        }
        self._storage.write(f"servers/{self.id}", json.dumps(fields).encode())

    def resign(self) -> None:
        """Removes the sign of life; blocks."""
        self._storage.delete(f"servers/{self.id}")

    def is_gone(self, owner: str) -> bool:
        """Whether another server process is not there any more; blocks."""
        if owner == self.id:
            return False
        try:
            fields = json.loads(self._storage.read(f"servers/{owner}"))
            host, pid = str(fields["host"]), int(fields["pid"])
            started, seconds = str(fields["started"]), float(fields["seconds"])
        except FileNotFoundError:
            return True
        except (ValueError, KeyError, TypeError):
            return True
        if host == socket.gethostname() and started and _start_of(pid) != started:
            return True
        return time.time() - seconds > STALE_SECONDS


def _start_of(pid: int) -> str:
    """Returns what tells a process from another of the same number; "" if that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "" if not Path("/proc/self/stat").exists() else "gone"
    except OSError:
        return ""
    # The name in parentheses may hold anything; the 22nd field is the time of its start.
    return f"{boot} {stat.rpartition(')')[2].split()[19]}"
