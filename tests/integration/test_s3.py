"""Storage on S3: a real server against moto, which answers as S3 does."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moto.server import ThreadedMotoServer

import gradwire
from gradwire import datasets
from gradwire.errors import NotFoundError, StorageError
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.storage import Storage, StorageConfig
from tests.processes import ServerProcess

BUCKET = "bucket"
URL = f"s3://{BUCKET}/gradwire"


class S3:
    """An S3 server in this process."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.make(BUCKET)

    def make(self, bucket: str) -> None:
        self._request("PUT", bucket)

    def remove(self, bucket: str) -> None:
        self._request("DELETE", bucket)

    def stop(self) -> None:
        self._server.stop()

    def uploads(self) -> int:
        """Returns how many multipart uploads are not finished."""
        return self._request("GET", f"{BUCKET}?uploads").decode().count("<Upload>")

    def _request(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            data: bytes = response.read()
        return data


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _environment(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_objects_are_written_whole_and_read_back(s3: S3, tmp_path: Path) -> None:
    storage = Storage(StorageConfig(url=URL, cache_folder=str(tmp_path / "cache")))
    large = np.random.default_rng(0).bytes(12 * 2**20)
    storage.write("a/large.bin", large)
    storage.write("a/small.bin", b"small")
    storage.write("a/small.bin", b"replaced")
    assert storage.read("a/small.bin") == b"replaced"
    assert storage.local_path("a/large.bin").read_bytes() == large
    assert [(each.name, each.num_bytes) for each in storage.list("a")] == [
        ("a/large.bin", len(large)),
        ("a/small.bin", 8),
    ]

    def give_up() -> None:
        with storage.writing("a/half.bin") as file:
            file.write(large)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert not storage.exists("a/half.bin")
    assert s3.uploads() == 0
    with storage.open("a/large.bin") as file:
        file.seek(7)
        assert file.read(5) == large[7:12]
    storage.delete_all("a")
    assert storage.list() == []
    with pytest.raises(FileNotFoundError):
        storage.read("a/small.bin")
    assert not list(storage.scratch_folder.iterdir())


def test_a_bucket_that_is_not_there_is_an_error_of_the_catalog(tmp_path: Path) -> None:
    storage = Storage(StorageConfig(url="s3://absent/x", cache_folder=str(tmp_path / "cache")))
    with pytest.raises(GradwireError) as caught:
        storage.write("a", b"data")
    assert caught.value.reason is Reason.STORAGE_FAILED


def test_an_s3_that_does_not_answer_is_an_error_of_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    config = StorageConfig(url="s3://elsewhere/x", cache_folder=str(tmp_path / "cache"))
    with pytest.raises(GradwireError) as caught:
        Storage(config).write("a", b"data")
    assert caught.value.reason is Reason.STORAGE_FAILED


def test_datasets_live_on_s3(s3: S3, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((1000, 30), np.float32)
    with ServerProcess(
        tmp_path, storage=URL, allowed_data_prefixes=f"s3://{BUCKET}/data"
    ) as server:
        with gradwire.connect(server.address):
            made = datasets.upload("d", {"x": x, "y": np.arange(1000)})
            assert datasets.list() == [made]
            stored = Storage(StorageConfig(url=URL, cache_folder=str(tmp_path / "other")))
            names = [each.name for each in stored.list("datasets")]
            (manifest,) = [name for name in names if name.endswith(".json")]
            described: dict[str, Any] = json.loads(stored.read(manifest))
            assert described["num_samples"] == 1000
            assert described["data"] in names
            outside = Storage(StorageConfig(url=f"s3://{BUCKET}", cache_folder=str(tmp_path / "c")))
            outside.write("data/x.csv", b"a,b\n1,2\n")
            outside.write("database/x.csv", b"a,b\n1,2\n")
            assert datasets.source(f"s3://{BUCKET}/data/x.csv").num_samples == 1
            with pytest.raises(PermissionError, match="allowed_data_prefixes"):
                datasets.source(f"s3://{BUCKET}/database/x.csv")
            with pytest.raises(NotFoundError):
                datasets.source(f"s3://{BUCKET}/data/absent.csv")
        assert server.stop() == 0
    with ServerProcess(tmp_path, storage=URL) as server, gradwire.connect(server.address):
        assert datasets.get("d") == made
        datasets.delete("d")
        assert datasets.list() == []


def test_a_server_whose_bucket_goes_says_so(s3: S3, tmp_path: Path) -> None:
    s3.make("passing")
    with (
        ServerProcess(tmp_path, storage="s3://passing/x") as server,
        gradwire.connect(server.address),
    ):
        s3.remove("passing")
        with pytest.raises(StorageError, match="storage"):
            datasets.upload("d", {"x": np.zeros(3)})


def test_a_server_does_not_start_on_a_bucket_that_it_cannot_write(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, storage="s3://absent/x")
    assert server.process.wait(60) == 2
    (line,) = server.log().splitlines()
    assert line.startswith("gradwire: storage: cannot write to s3://absent/x: ")
    assert "bucket does not exist" in line
