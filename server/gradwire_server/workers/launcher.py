"""Starting worker processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from gradwire_server.limits import Limits
from gradwire_server.storage import StorageConfig
from gradwire_server.workers.link import SocketLink
from gradwire_server.workers.watchdog import EXIT_STATUS

WORKER_COMMAND = (sys.executable, "-m", "gradwire_server.workers.process")

_SOCKET_BUFFER_BYTES = 1024 * 1024

_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""Torch's switch for huge pages, in tensors of 2 MiB and more on the CPU. New memory for one is
then there in a seventh of the time, which is else several times what copying its elements takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A worker process that was started, and the link to it."""

    process: asyncio.subprocess.Process
    link: SocketLink

    async def end(self, timeout_seconds: float) -> None:
        """Waits until the process has ended, and kills it if that takes too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        finally:
            self.link.close()

    def kill(self) -> None:
        """Ends the process at once."""
        if self.process.returncode is None:
            self.process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """How worker processes are started.

    Attributes:
        limits: The limits that they enforce.
        tenants: Tenants with limits of their own, and those.
        storage: Where durable data is.
        log_format: ``json`` or ``text``.
        log_level: Such as ``info``.
        replay_steps: Whether workers replay steps that must be exact.
        compile_steps: Whether workers compile steps that need not be exact.
        command: What runs a worker; the options are appended.
    """

    limits: Limits
    tenants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    storage: StorageConfig
    log_format: str = "text"
    log_level: str = "info"
    replay_steps: bool = True
    compile_steps: bool = True
    command: Sequence[str] = WORKER_COMMAND

    async def launch(self, device: str, *, threads: int, on_lost: Callable[[], None]) -> Launched:
        """Starts a worker process; it says on the link when it is ready.

        The process ends itself when this one is gone, whichever way that happened, since its end
        of the socket then reads end of file.

        Args:
            device: Such as ``cpu`` or ``cuda:0``.
            threads: How many threads an operation may use.
            on_lost: See `SocketLink`.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    *("--fd", str(theirs.fileno())),
                    *("--device", device),
                    *("--threads", str(threads)),
                    *("--limits", json.dumps(asdict(self.limits))),
                    *("--tenants", json.dumps(self.tenants)),
                    *("--storage", json.dumps(asdict(self.storage))),
                    *("--log-format", self.log_format),
                    *("--log-level", self.log_level),
                    *(("--replay-steps",) if self.replay_steps else ()),
                    *(("--compile-steps",) if self.compile_steps else ()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={_HUGE_PAGES: "1", **os.environ},
                    # A Ctrl-C in the terminal is for the front, which then ends its workers.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return Launched(process=process, link=SocketLink(ours, on_lost=on_lost))


def describe_end(returncode: int | None) -> str:
    """Returns in words how a process ended."""
    if returncode is None:
        return "closed its connection"
    if returncode == EXIT_STATUS:
        return "did not come back from a command within max_command_seconds"
    if returncode < 0:
        try:
            return f"was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"was killed by signal {-returncode}"
    return f"ended with status {returncode}"
