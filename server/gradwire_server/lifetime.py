"""When the server ends: signals, and the end of the process it was started for."""

import asyncio
import os
import signal
import sys

PARENT_POLL_SECONDS = 1.0


class Lifetime:
    """Tells when the server is to stop, and when to stop at once.

    Attributes:
        stop: Set on the first SIGTERM or SIGINT, or when the parent is gone.
        abandon: Set on the second signal.
        orphaned: Whether the parent is gone.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.abandon = asyncio.Event()
        self.orphaned = False

    def watch_signals(self) -> None:
        """Takes over SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    async def watch_parent(self, pid: int) -> None:
        """Sets `stop` when the process that started this one has ended.

        Args:
            pid: Of the direct parent; if another process is that by now, the parent is gone.
        """
        if sys.platform == "linux":
            await _end_of(pid)
        else:
            while os.getppid() == pid:  # noqa: ASYNC110
                # Only Linux tells when a process ends that is not a child.
                await asyncio.sleep(PARENT_POLL_SECONDS)
        self.orphaned = True
        self.stop.set()

    def _signalled(self) -> None:
        if self.stop.is_set():
            self.abandon.set()
        self.stop.set()


async def _end_of(pid: int) -> None:
    """Waits until the parent process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        # It may have ended, and its number been given away, before the descriptor was opened.
        if os.getppid() == pid:
            await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
