"""`gradwire runs` and `gradwire checkpoints` against a real server."""

import os
import subprocess
import sys
import termios

import numpy as np

import gradwire
from gradwire.session import Session


def command(
    address: str, *arguments: str, stderr: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gradwire_server", *arguments, "--address", address],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=False,
        timeout=60,
    )


def test_runs_and_their_checkpoints_are_listed_watched_and_deleted(
    session: Session, address: str
) -> None:
    model = gradwire.nn.Linear(3, 1)
    numbers = np.zeros((8, 3), np.float32), np.ones((8, 1), np.float32)
    run = gradwire.train(
        model,
        numbers,
        loss=gradwire.nn.MSELoss(),
        optimizer=gradwire.optim.SGD(model.parameters(), lr=0.1),
        epochs=5,
        name="by command",
    )
    short = run.name.removeprefix("runs/")

    listed = command(address, "runs", "list").stdout
    assert short in listed
    assert "by command" in listed
    assert "SUCCEEDED" in listed
    assert "5/5" in listed

    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    watched = command(address, "runs", "watch", short, stderr=theirs)
    os.close(theirs)
    assert watched.returncode == 0
    assert watched.stdout == f"{run.name}: SUCCEEDED\n"
    assert b"epoch 5/5, loss " in os.read(ours, 1 << 16)
    os.close(ours)
    assert command(address, "runs", "watch", short).stderr == ""

    cancelled = command(address, "runs", "cancel", short)
    assert cancelled.stdout == f"{run.name}: SUCCEEDED\n"

    first, last = (name.removeprefix("checkpoints/") for name in run.checkpoints)
    kept = command(address, "checkpoints", "list", "--run", short).stdout
    assert kept.index(last) < kept.index(first)
    shown = command(address, "checkpoints", "show", last).stdout
    assert "torch" in shown
    assert command(address, "checkpoints", "delete", first).returncode == 0
    assert first not in command(address, "checkpoints", "list", "--run", short).stdout
    missing = command(address, "checkpoints", "show", first)
    assert missing.returncode == 1
    assert "NOT_FOUND" in missing.stderr

    assert command(address, "runs", "delete", short).returncode == 0
    gone = command(address, "runs", "watch", short)
    assert gone.returncode == 1
    assert "NOT_FOUND" in gone.stderr
    assert not (command(address, "checkpoints", "list").stdout.count(short))
