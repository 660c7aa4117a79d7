"""Whole programs: the embedded server lives as long as they do, whatever way they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 60
START = """
import os, sys
import gradwire as torch
x = torch.ones(2)
assert x.sum().item() == 2.0
from gradwire import connection
server = connection._embedded
print(server._process.pid, server._folder, flush=True)
"""
"""A program that uses an embedded server and says where it is."""
WITHOUT_SERVER = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in ("torch", "gradwire_server") else find_spec(name, package)
)
"""


def start(source: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """Starts a program whose temporary files go to a folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GRADWIRE_")}
    return subprocess.Popen(
        [sys.executable, "-c", source],
        env={**inherited, "TMPDIR": str(folder), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(source: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program to its end."""
    program = start(source, folder, **environment)
    stdout, stderr = program.communicate(timeout=TIMEOUT_SECONDS)
    return subprocess.CompletedProcess(program.args, program.returncode, stdout, stderr)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_gone(printed: str) -> None:
    """Asserts that the server that a program named ends soon, with all that belongs to it."""
    pid, folder = printed.split()[:2]
    deadline = time.monotonic() + 20
    while is_running(int(pid)) or Path(folder).exists():
        assert time.monotonic() < deadline, f"process {pid} or {folder} is left"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError('on purpose')", 1),
        ("del x; os._exit(4)", 4),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM),
        ("import threading; threading.Thread(target=lambda: x + 1).start()", 0),
    ],
    ids=["return", "exit", "exception", "_exit", "SIGKILL", "SIGTERM", "thread"],
)
def test_an_embedded_server_ends_with_the_program(end: str, status: int, tmp_path: Path) -> None:
    finished = run(START + end, tmp_path)

    assert finished.returncode == status, finished.stderr
    assert_gone(finished.stdout)
    assert not list(tmp_path.glob("gradwire*"))
    if status == 0:
        assert finished.stderr == ""


def test_a_program_shows_an_error_that_nobody_waited_for(tmp_path: Path) -> None:
    finished = run(START + "torch.ones(2, 3) @ torch.ones(2, 3)", tmp_path)

    assert "cannot be multiplied" in finished.stderr
    assert 'File "<string>", line 9' in finished.stderr
    assert_gone(finished.stdout)


def test_an_interrupt_in_the_terminal_is_for_the_program_alone(tmp_path: Path) -> None:
    waiting = """
try:
    print("waiting", flush=True)
    sys.stdin.readline()
except KeyboardInterrupt:
    print((x + 1).tolist(), flush=True)
"""
    program = start(START + waiting, tmp_path)
    assert program.stdout is not None
    where = program.stdout.readline()
    assert program.stdout.readline() == "waiting\n"
    program.send_signal(signal.SIGINT)
    stdout, stderr = program.communicate(timeout=TIMEOUT_SECONDS)

    assert stdout == "[2.0, 2.0]\n", stderr
    assert_gone(where)


def test_no_server_and_no_address_is_a_clear_error(tmp_path: Path) -> None:
    finished = run(WITHOUT_SERVER + "import gradwire\ngradwire.ones(2)", tmp_path)

    assert finished.returncode == 1
    assert "ServerUnavailableError" in finished.stderr
    assert "pip install 'gradwire[server]'" in finished.stderr
    assert "GRADWIRE_ADDRESS" in finished.stderr
    assert not list(tmp_path.iterdir())


def test_an_address_is_all_that_a_thin_client_needs(tmp_path: Path, address: str) -> None:
    source = WITHOUT_SERVER + (
        "import gradwire, sys\nprint(gradwire.ones(2).tolist())\n"
        "assert 'torch' not in sys.modules and 'gradwire_server' not in sys.modules\n"
    )
    finished = run(source, tmp_path, GRADWIRE_ADDRESS=address)

    assert finished.stdout == "[1.0, 1.0]\n", finished.stderr


def test_what_talks_to_servers_is_loaded_when_there_is_one(tmp_path: Path, address: str) -> None:
    source = """
import sys
import gradwire as torch
import gradwire.nn as nn
import gradwire.optim as optim
torch.tensor, torch.no_grad, nn.Linear, nn.Module, optim.SGD, optim.lr_scheduler.StepLR
print({"grpc", "ml_dtypes", "xxhash", "gradwire.session"} & {*sys.modules})
print(torch.ones(2, dtype=torch.bfloat16).tolist(), "grpc" in sys.modules)
"""
    finished = run(source, tmp_path, GRADWIRE_ADDRESS=address)

    assert finished.stdout == "set()\n[1.0, 1.0] True\n", finished.stderr


def test_a_forked_child_connects_anew(tmp_path: Path, address: str) -> None:
    source = """
import os, sys
import gradwire
from gradwire.current import get_session

x = gradwire.ones(2)
session = gradwire.current_session()
print(x.tolist(), flush=True)
pid = os.fork()
if pid == 0:
    assert get_session() is None
    print(gradwire.full((1,), 5.0).tolist(), flush=True)
    assert gradwire.current_session().name != session.name
    try:
        print((x + 1).tolist())
    except ConnectionError as error:
        print("forked" in str(error), flush=True)
    session.close()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print((x + 1).tolist(), flush=True)
"""
    finished = run(source, tmp_path, GRADWIRE_ADDRESS=address)

    assert finished.stdout == "[1.0, 1.0]\n[5.0]\nTrue\n[2.0, 2.0]\n", finished.stderr
    assert finished.returncode == 0


def test_a_forked_child_leaves_the_embedded_server_to_its_parent(tmp_path: Path) -> None:
    source = (
        START
        + """
pid = os.fork()
if pid == 0:
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print((x + 1).tolist(), flush=True)
"""
    )
    finished = run(source, tmp_path)

    assert "[2.0, 2.0]" in finished.stdout, finished.stderr
    assert_gone(finished.stdout)


@pytest.mark.parametrize(
    "line",
    [
        "torch.rand(2, 2).to(torch.float64)",
        "torch.tensor([1.0]).add(1)",
        "torch.nn.functional.relu(torch.from_numpy(np.ones(2))).sum()",
        "torch.nn.Linear(1, 1).weight.detach()",
    ],
)
def test_tensors_have_their_methods_whatever_is_imported_first(
    line: str, address: str, tmp_path: Path
) -> None:
    source = f"import numpy as np\nimport gradwire as torch\nprint({line}.shape)"
    finished = run(source, tmp_path, GRADWIRE_ADDRESS=address)
    assert finished.returncode == 0, finished.stderr


def test_an_embedded_server_that_was_killed_is_said_to_be_and_another_is_started(
    tmp_path: Path,
) -> None:
    source = (
        START
        + """
import signal
os.kill(server._process.pid, signal.SIGKILL)
try:
    x.sum().item()
except torch.errors.SessionLostError as error:
    assert "embedded server has ended" in str(error), error
    print("lost", flush=True)
torch.connect()
assert connection._embedded is not server
assert torch.ones(3).sum().item() == 3.0
print("again", flush=True)
"""
    )
    ended = run(source, tmp_path)
    assert ended.stdout.splitlines()[1:] == ["lost", "again"], ended.stderr
    assert list(tmp_path.iterdir()) == []
