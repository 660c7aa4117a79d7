"""An embedded server: a local server process that lives as long as the program."""

import atexit
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gradwire.errors import ServerUnavailableError

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0
MAX_LOG_BYTES = 4000


class EmbeddedServer:
    """A server process on a unix socket in a private folder.

    It starts when this is made, and can be talked to after `wait_until_listening`.

    It ends with this program, whatever way the program ends: at exit it is told to stop, and if
    this process is killed the server notices by itself.

    Attributes:
        address: Where it listens, ``unix:PATH``.

    Raises:
        ServerUnavailableError: The server's parts are not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("gradwire_server") is None or (
            importlib.util.find_spec("torch") is None
        ):
            raise ServerUnavailableError(
                "no address is given and there is no embedded server: the server's parts are not "
                "installed. pip install 'gradwire[server]', or set GRADWIRE_ADDRESS or "
                "gradwire.connect(address) to the address of a server."
            )
        self._folder = Path(tempfile.mkdtemp(prefix="gradwire-"))
        self.address = f"unix:{self._folder}/server.sock"
        # Without a name, so that nothing stays behind if this process is killed.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the server
        listening, tells = os.pipe()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gradwire_server",
                "serve",
                "--address",
                self.address,
                "--parent-pid",
                str(os.getpid()),
                "--ready-fd",
                str(tells),
                # Its runs rest when the program ends; the next program may have other plans.
                "--no-resume-runs",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(tells,),
            # A Ctrl-C in the terminal is for the program, which then ends the server.
            start_new_session=True,
        )
        self._owner = os.getpid()
        atexit.register(self.stop)
        os.close(tells)
        self._listening: int | None = listening

    def wait_until_listening(self) -> None:
        """Waits until the server listens, unless that was waited for before.

        Raises:
            ServerUnavailableError: It did not start.
        """
        if self._listening is None:
            return
        # The server writes to the pipe; it is closed if the server has ended.
        waiting = select.poll()
        waiting.register(self._listening, select.POLLIN)
        if waiting.poll(START_TIMEOUT_SECONDS * 1000) and os.read(self._listening, 1):
            self._close_pipe()
            return
        log = self.log()
        self.stop()
        raise ServerUnavailableError(f"the embedded server did not start; its log says:\n{log}")

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more: it was killed, or has crashed."""
        return self._process.poll() is not None

    def log(self) -> str:
        """Returns the end of what the server has logged; nothing once it is stopped."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        end = os.pread(self._log.fileno(), MAX_LOG_BYTES, max(0, size - MAX_LOG_BYTES))
        return end.decode("utf-8", errors="replace")

    def stop(self) -> None:
        """Ends the server and removes its folder."""
        if os.getpid() != self._owner:
            # A forked child does not own its parent's server.
            return
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close_pipe()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _close_pipe(self) -> None:
        if self._listening is not None:
            os.close(self._listening)
            self._listening = None
