"""``gradwire datasets`` on a real server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gradwire
from gradwire import datasets
from tests.processes import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


def command(server: ServerProcess, *arguments: object) -> "subprocess.CompletedProcess[str]":
    name, *rest = arguments
    return subprocess.run(
        [
            *(sys.executable, "-m", "gradwire_server", "datasets", str(name)),
            *("--address", server.address, *map(str, rest)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_files_are_uploaded_listed_shown_and_deleted(server: ServerProcess, tmp_path: Path) -> None:
    images = np.arange(3 * 300_000, dtype=np.uint8).reshape(3, -1)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 2]))
    np.savez(tmp_path / "b.npz", images=images[:1], labels=np.array([7]))
    done = command(server, "upload", "digits", tmp_path / "a.npz", tmp_path / "b.npz")
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout
    assert "ready" in done.stdout
    again = command(server, "upload", "again", tmp_path / "a.npz", tmp_path / "b.npz")
    assert again.returncode == 0, again.stderr
    with gradwire.connect(server.address):
        # What the SDK uploads has the same contents as what the command did.
        joined = {"images": np.concatenate([images, images[:1]]), "labels": np.array([0, 1, 2, 7])}
        assert datasets.upload("sdk", joined).sha256 == datasets.get("digits").sha256
    listed = command(server, "list").stdout
    assert [name in listed for name in ("digits", "again", "sdk")] == [True] * 3
    assert "1.2 MB" in listed
    shown = command(server, "show", "digits").stdout
    for text in ("images", "uint8", "[300000]", "labels", "int64", "SHA-256"):
        assert text in shown
    for name in ("digits", "again", "sdk"):
        assert "is deleted" in command(server, "delete", name).stdout
    assert "digits" not in command(server, "list").stdout


def test_failures_are_told_in_one_line(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "x.csv").write_text("a,b\n1\n")
    for arguments, text in (
        (("show", "absent"), "NOT_FOUND"),
        (("delete", "absent"), "NOT_FOUND"),
        (("upload", "x", tmp_path / "x.txt"), "known format"),
        (("upload", "x", tmp_path / "x.csv"), "CSV"),
    ):
        done = command(server, *arguments)
        assert done.returncode == 1
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert command(server, "upload", "x", tmp_path / "absent.csv").returncode == 2
