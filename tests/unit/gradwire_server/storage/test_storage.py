"""Objects of the storage: whole or not there, on a local disk and elsewhere."""

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.storage import Storage, StorageConfig
from gradwire_server.storage.local import FORGOTTEN_SECONDS


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A local folder, and a file system of fsspec that is not the local disk."""
    url = str(tmp_path / "storage")
    if request.param == "remote":
        url = f"memory://{uuid.uuid4().hex}"
    yield Storage(StorageConfig(url=url, cache_folder=str(tmp_path / "cache")))
    fsspec.filesystem("memory").store.clear()


def test_what_was_written_is_read_and_listed(storage: Storage) -> None:
    storage.write("a/b/one.bin", b"1")
    storage.write("a/two.bin", b"22")
    storage.write("ab/three.bin", b"333")
    assert storage.read("a/b/one.bin") == b"1"
    assert [each.name for each in storage.list()] == ["a/b/one.bin", "a/two.bin", "ab/three.bin"]
    assert [(each.name, each.num_bytes) for each in storage.list("a")] == [
        ("a/b/one.bin", 1),
        ("a/two.bin", 2),
    ]
    assert storage.exists("a/two.bin")
    assert storage.size("a/two.bin") == 2
    with storage.open("ab/three.bin") as file:
        assert file.seek(1) == 1
        assert file.read() == b"33"


def test_a_second_write_replaces_the_first(storage: Storage) -> None:
    storage.write("x", b"first")
    storage.write("x", b"second")
    assert storage.read("x") == b"second"
    assert storage.local_path("x").read_bytes() == b"second"
    storage.write("x", b"third")
    assert storage.local_path("x").read_bytes() == b"third"


def test_a_write_that_is_given_up_leaves_nothing(storage: Storage) -> None:
    storage.write("x", b"before")

    def give_up() -> None:
        with storage.writing("x") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert storage.read("x") == b"before"
    assert not list(storage.scratch_folder.iterdir())


def test_a_local_file_becomes_an_object(storage: Storage) -> None:
    with storage.scratch_file() as path:
        path.write_bytes(b"data")
        storage.put_file(path, "a/data.bin")
        assert not path.exists()
    assert storage.local_path("a/data.bin").read_bytes() == b"data"


def test_what_is_deleted_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    storage.write("a/b/one", b"1")
    storage.write("a/two", b"2")
    storage.delete("a/two")
    storage.delete("a/two")
    assert [each.name for each in storage.list()] == ["a/b/one"]
    storage.delete_all("a")
    assert not storage.list()
    storage.delete_all("a")


def test_a_missing_object_is_a_missing_file(storage: Storage) -> None:
    assert not storage.exists("a")
    assert not storage.list("a")
    for method in (storage.read, storage.open, storage.size, storage.local_path):
        with pytest.raises(FileNotFoundError):
            method("a")


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "../a", "a/../b", ".hidden", "a/.b", "a//b", "a\0", "ä"]
)
def test_a_name_that_could_lead_elsewhere_is_refused(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        storage.write(name, b"")


def test_the_folder_above_a_deleted_object_goes_but_not_the_storage(tmp_path: Path) -> None:
    storage = Storage(StorageConfig(url=str(tmp_path / "storage")))
    storage.write("a/b/one", b"1")
    storage.delete("a/b/one")
    assert not (tmp_path / "storage" / "a").exists()
    assert (tmp_path / "storage").exists()


def test_a_local_object_is_mapped_where_it_is(tmp_path: Path) -> None:
    storage = Storage(StorageConfig(url=f"file://{tmp_path}/storage"))
    storage.write("a/one", b"1")
    assert storage.local_path("a/one") == tmp_path / "storage" / "a" / "one"


def test_copies_of_remote_objects_stay_within_their_bound(tmp_path: Path) -> None:
    config = StorageConfig(
        url=f"memory://{uuid.uuid4().hex}", cache_folder=str(tmp_path), max_cache_bytes=250
    )
    storage = Storage(config)
    for number in range(4):
        storage.write(f"x{number}", bytes([number]) * 100)
        assert storage.local_path(f"x{number}").read_bytes() == bytes([number]) * 100
    assert sum(path.stat().st_size for path in (tmp_path / "copies").iterdir()) <= 250
    assert storage.local_path("x0").read_bytes() == bytes([0]) * 100


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, Reason.STORAGE_FULL), (errno.EIO, Reason.STORAGE_FAILED)],
)
def test_a_disk_that_fails_is_an_error_of_the_catalog(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, number: int, reason: Reason
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(type(storage._fs), "put_file", fail)
    with pytest.raises(GradwireError, match="a/x") as caught:
        storage.write("a/x", b"data")
    assert caught.value.reason is reason
    assert not storage.exists("a/x")
    assert not list(storage.scratch_folder.iterdir())


def test_a_disk_that_is_full_when_the_last_bytes_are_written_is_an_error_of_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(StorageConfig(url=str(tmp_path)))
    monkeypatch.setattr(storage, "scratch_file", lambda: nullcontext(Path("/dev/full")))
    with pytest.raises(GradwireError) as caught:
        storage.write("x", b"few bytes, which stay in memory until the file is closed")
    assert caught.value.reason is Reason.STORAGE_FULL
    assert not storage.exists("x")


def test_a_folder_that_cannot_be_made_is_an_error_of_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = Storage(StorageConfig(url=str(tmp_path / "file" / "storage")))
    with pytest.raises(GradwireError) as caught:
        storage.write("x", b"")
    assert caught.value.reason is Reason.STORAGE_FAILED
    assert str(tmp_path) not in caught.value.message


def test_more_than_the_disk_has_is_refused_before_it_is_written(storage: Storage) -> None:
    storage.require_space("x", 1)
    with pytest.raises(GradwireError) as caught:
        storage.require_space("x", 2**60)
    assert caught.value.reason is Reason.STORAGE_FULL


def test_only_scratch_files_that_were_forgotten_are_removed(storage: Storage) -> None:
    fresh, old = (storage.scratch_folder / name for name in ("fresh", "old"))
    for path in (fresh, old):
        path.write_bytes(b"")
    then = time.time() - FORGOTTEN_SECONDS - 1
    os.utime(old, (then, then))
    storage.clean()
    assert fresh.exists()
    assert not old.exists()
