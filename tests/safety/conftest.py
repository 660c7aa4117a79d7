"""A server with small limits, whose worker tells what it reaches for."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gradwire.transport.channel import open_channel
from tests.processes import ServerProcess, Stubs
from tests.safety.caller import Caller, callers, worker_pids

MEBIBYTE = 1024 * 1024
MAX_SESSION_BYTES = 64 * MEBIBYTE
MAX_MESSAGE_BYTES = 4 * MEBIBYTE
MAX_COMMAND_SECONDS = 3

ROOT = Path(__file__).parents[2]
OWN_FOLDERS = (
    *{sys.prefix, sys.base_prefix, str(Path(os.__file__).parent)},
    *(str(ROOT / source) for source in ("client", "server")),
)
OWN_PACKAGES = {*sys.stdlib_module_names, "torch", "numpy", "gradwire", "gradwire_server"}


class Reached(NamedTuple):
    """Something that a worker reached for while it served a call."""

    event: str
    args: list[str]
    stack: list[str]


class SmallServer(NamedTuple):
    """The server, plain stubs, and what its worker has reached for."""

    stubs: Stubs
    process: ServerProcess
    report: Path

    def pid(self) -> int:
        """Returns the process id of the one worker."""
        (pid,) = worker_pids(self.stubs)
        return pid

    def peak_bytes(self) -> int:
        """Returns the most memory that the worker had resident, so far."""
        for line in Path(f"/proc/{self.pid()}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def num_threads(self) -> int:
        """Returns how many threads the worker has."""
        return len(list(Path(f"/proc/{self.pid()}/task").iterdir()))

    def reached(self) -> list[Reached]:
        """Returns what the worker reached for beside Python's own modules, which torch loads."""
        lines = self.report.read_text().splitlines() if self.report.exists() else []
        return [
            found
            for found in (Reached(*json.loads(line)) for line in lines)
            if not _is_import(found)
        ]


def _is_import(reached: Reached) -> bool:
    """Whether torch loads a part of itself when it is first needed, or a warning shows its line."""
    if reached.event == "import":
        return reached.args[0].strip("'").partition(".")[0] in OWN_PACKAGES
    if reached.event == "open":
        path, mode = (arg.strip("'") for arg in reached.args[:2])
        return path.startswith(OWN_FOLDERS) and mode in {"r", "rb", "None"}
    if reached.event == "os.listdir":
        return reached.args[0].strip("'").startswith(OWN_FOLDERS)
    return any("<frozen importlib" in frame for frame in reached.stack)


@pytest.fixture(scope="session")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    folder = tmp_path_factory.mktemp("small")
    report = folder / "reached"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("TESTS_SAFETY_AUDIT", str(report))
        server = ServerProcess(
            folder,
            max_session_bytes=MAX_SESSION_BYTES,
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_command_seconds=MAX_COMMAND_SECONDS,
            max_program_operations=2000,
            storage=f"file://{folder}/storage",
        )
    with server, open_channel(server.address) as channel:
        stubs = Stubs(channel)
        Caller(stubs).close()  # waits for the worker
        yield SmallServer(stubs, server, report)


@pytest.fixture
def caller(small_server: SmallServer) -> Iterator[Caller]:
    yield from callers(small_server.stubs)


@pytest.fixture
def unharmed(small_server: SmallServer) -> Iterator[None]:
    """Holds that the worker lives on, and reached for nothing outside of itself."""
    pid = small_server.pid()
    reached = len(small_server.reached())
    yield
    assert small_server.pid() == pid, small_server.process.log()[-2000:]
    assert small_server.reached()[reached:] == []
