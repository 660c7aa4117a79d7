"""Datasets from plain stubs: upload, resume, once-stored data, limits, and files on the server."""

import gzip
import hashlib
import shutil
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from safetensors.numpy import load_file

from gradwire.v1 import datasets_pb2, values_pb2
from gradwire_server.server import Server
from tests.fakes.server import Client, info_of, running

FLOAT, INT64, UINT8 = (
    values_pb2.DATA_TYPE_FLOAT32,
    values_pb2.DATA_TYPE_INT64,
    values_pb2.DATA_TYPE_UINT8,
)
READY, UPLOADING = datasets_pb2.DATASET_STATE_READY, datasets_pb2.DATASET_STATE_UPLOADING

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 1, 0])
DATA = X.tobytes() + Y.tobytes()
COLUMNS = [
    datasets_pb2.Column(name="x", dtype=FLOAT, shape=[3]),
    datasets_pb2.Column(name="y", dtype=INT64),
]


def described(data: bytes = DATA, **changes: Any) -> datasets_pb2.Dataset:
    fields = {
        "columns": COLUMNS,
        "num_samples": 4,
        "content_sha256": hashlib.sha256(data).digest(),
        **changes,
    }
    return datasets_pb2.Dataset(**fields)


async def create(client: Client, name: str = "d", **changes: Any) -> datasets_pb2.Dataset:
    request = datasets_pb2.CreateDatasetRequest(dataset_id=name, dataset=described(**changes))
    dataset: datasets_pb2.Dataset = (await client.datasets.CreateDataset(request)).dataset
    return dataset


async def upload(
    client: Client, *pieces: bytes, name: str = "datasets/d", offset: int = 0
) -> datasets_pb2.Dataset:
    def requests() -> Iterator[datasets_pb2.UploadDatasetRequest]:
        for index, piece in enumerate(pieces):
            first: dict[str, Any] = {} if index else {"name": name, "offset": offset}
            yield datasets_pb2.UploadDatasetRequest(data=piece, **first)

    dataset: datasets_pb2.Dataset = (await client.datasets.UploadDataset(requests())).dataset
    return dataset


async def get(client: Client, name: str = "datasets/d") -> datasets_pb2.Dataset:
    request = datasets_pb2.GetDatasetRequest(name=name)
    dataset: datasets_pb2.Dataset = (await client.datasets.GetDataset(request)).dataset
    return dataset


async def delete(client: Client, name: str = "datasets/d") -> None:
    await client.datasets.DeleteDataset(datasets_pb2.DeleteDatasetRequest(name=name))


async def names(client: Client) -> list[str]:
    response = await client.datasets.ListDatasets(datasets_pb2.ListDatasetsRequest())
    return [dataset.name for dataset in response.datasets]


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def refused(call: Any) -> "grpc.aio.AioRpcError":
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_uploaded_data_is_stored_as_safetensors_with_a_manifest(
    client: Client, tmp_path: Path
) -> None:
    created = await create(client)
    assert (created.state, created.stored_bytes, created.size_bytes) == (UPLOADING, 0, len(DATA))
    done = await upload(client, DATA[:7], DATA[7:50], DATA[50:])
    assert done.state == READY
    assert done == await get(client)
    assert list(done.columns) == COLUMNS
    assert (done.num_samples, done.stored_bytes) == (4, len(DATA))
    assert done.create_time.ToSeconds() > 0
    stored = files_of(tmp_path / "storage")
    assert stored[1:] == ["datasets/default/names/d.json"]
    tensors = load_file(tmp_path / "storage" / stored[0])
    assert np.array_equal(tensors["x"], X)
    assert np.array_equal(tensors["y"], Y)


async def test_a_second_upload_of_the_same_data_moves_nothing(client: Client) -> None:
    await create(client)
    await upload(client, DATA)
    assert (await create(client)).state == READY
    assert (await create(client, "again")).state == READY
    await delete(client)
    assert (await get(client, "datasets/again")).state == READY
    assert (await create(client)).state == READY


async def test_the_same_bytes_of_other_columns_are_other_data(client: Client) -> None:
    await create(client)
    await upload(client, DATA)
    columns = [datasets_pb2.Column(name="all", dtype=UINT8, shape=[len(DATA) // 4])]
    assert (await create(client, "bytes", columns=columns)).state == UPLOADING


async def test_an_upload_goes_on_where_it_ended(client: Client) -> None:
    await create(client)
    assert (await upload(client, DATA[:30])).state == UPLOADING
    assert (await get(client)).stored_bytes == 30
    assert await names(client) == []
    assert (await create(client)).stored_bytes == 30
    assert (await upload(client, DATA[20:], offset=20)).state == READY


async def test_an_upload_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        await create(client)
        await upload(client, DATA[:30])
    async with running(tmp_path) as (_, client):
        error = await refused(upload(client, DATA[30:], offset=30))
        assert info_of(error).reason == "DATASET_NOT_FOUND"
        assert (await create(client)).stored_bytes == 30
        assert (await upload(client, DATA[30:], offset=30)).state == READY


async def test_data_with_another_hash_is_refused_and_nothing_is_kept(
    client: Client, tmp_path: Path
) -> None:
    await create(client)
    error = await refused(upload(client, bytes(len(DATA))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "announced" in str(error.details())
    assert files_of(tmp_path / "storage") == []
    assert (await create(client)).stored_bytes == 0


async def test_pieces_that_do_not_fit_are_refused(client: Client) -> None:
    await create(client)
    error = await refused(upload(client, DATA, offset=1))
    assert info_of(error).reason == "OUT_OF_ORDER"
    assert info_of(error).metadata["stored_bytes"] == "0"
    error = await refused(upload(client, DATA + b"x"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await refused(upload(client))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_name_that_is_taken_by_other_data_is_refused(client: Client) -> None:
    await create(client)
    await upload(client, DATA)
    error = await refused(create(client, data=b"other"))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS
    assert (await get(client)).state == READY


async def test_a_deleted_dataset_is_gone_and_its_bytes_too(client: Client, tmp_path: Path) -> None:
    await create(client)
    await upload(client, DATA)
    await delete(client)
    assert files_of(tmp_path / "storage") == []
    for call in (get(client), delete(client)):
        assert (await refused(call)).code() is grpc.StatusCode.NOT_FOUND


async def test_an_upload_can_be_given_up(client: Client, tmp_path: Path) -> None:
    await create(client)
    await upload(client, DATA[:30])
    await delete(client)
    assert files_of(tmp_path / "storage") == []
    assert (await refused(get(client))).code() is grpc.StatusCode.NOT_FOUND


async def test_datasets_are_listed_in_pages(client: Client) -> None:
    await create(client, "a")
    await upload(client, DATA, name="datasets/a")
    for name in ("b", "c"):
        await create(client, name)
    seen, token = [], ""
    while True:
        response = await client.datasets.ListDatasets(
            datasets_pb2.ListDatasetsRequest(page_size=2, page_token=token)
        )
        seen.append([dataset.name for dataset in response.datasets])
        token = response.next_page_token
        if not token:
            break
    assert seen == [["datasets/a", "datasets/b"], ["datasets/c"]]
    error = await refused(
        client.datasets.ListDatasets(datasets_pb2.ListDatasetsRequest(page_token="x"))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "changes", "what"),
    [
        ("", {}, "dataset_id"),
        ("../d", {}, "dataset_id"),
        ("a/b", {}, "dataset_id"),
        ("d", {"num_samples": 0}, "num_samples"),
        ("d", {"num_samples": -1}, "num_samples"),
        ("d", {"columns": []}, "columns"),
        ("d", {"columns": [COLUMNS[0]] * 2}, "'x'"),
        ("d", {"columns": [datasets_pb2.Column(name="", dtype=FLOAT)]}, "columns"),
        ("d", {"columns": [datasets_pb2.Column(name="x")]}, "dtype"),
        ("d", {"columns": [datasets_pb2.Column(name="x", dtype=FLOAT, shape=[0])]}, "shape"),
        ("d", {"columns": [datasets_pb2.Column(name="x", dtype=FLOAT, shape=[-3])]}, "shape"),
        ("d", {"content_sha256": b"short"}, "content_sha256"),
    ],
)
async def test_a_malformed_description_is_refused(
    client: Client, name: str, changes: Any, what: str
) -> None:
    error = await refused(create(client, name, **changes))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert what in str(error.details())


@pytest.mark.parametrize(
    "limit",
    [
        {"max_dataset_bytes": len(DATA) - 1},
        {"max_total_dataset_bytes": len(DATA) - 1},
        {"max_dataset_columns": 1},
    ],
)
async def test_limits_are_checked_before_anything_is_stored(
    tmp_path: Path, limit: dict[str, int]
) -> None:
    async with running(tmp_path, **limit) as (_, client):
        error = await refused(create(client))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error).metadata["limit"] == next(iter(limit))
        assert files_of(tmp_path / "storage") == []


async def test_uploads_in_progress_count_towards_the_limit_of_all(tmp_path: Path) -> None:
    async with running(tmp_path, max_total_dataset_bytes=2 * len(DATA) - 1) as (_, client):
        await create(client)
        error = await refused(create(client, "other", data=b"other"))
        assert info_of(error).metadata["limit"] == "max_total_dataset_bytes"
        await delete(client)
        await create(client, "other", data=b"other")


async def test_more_than_the_disk_holds_is_refused_when_it_is_announced(tmp_path: Path) -> None:
    limits = {"max_dataset_bytes": 2**60, "max_total_dataset_bytes": 2**60}
    async with running(tmp_path, **limits) as (_, client):
        error = await refused(create(client, num_samples=2**48))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error).reason == "STORAGE_FULL"
        assert files_of(tmp_path / "storage") == []


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server that may read a folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data-private").mkdir()
    async with running(tmp_path, allowed_data_prefixes=f"{tmp_path}/data") as (_, client):
        yield client


async def describe(client: Client, *uris: str, **file: Any) -> Any:
    files = datasets_pb2.Files(files=[datasets_pb2.File(uri=uri, **file) for uri in uris])
    return await client.datasets.DescribeFiles(datasets_pb2.DescribeFilesRequest(files=files))


async def test_files_of_mnist_are_described(reader: Client, tmp_path: Path) -> None:
    images = tmp_path / "data" / "train-images-idx3-ubyte"
    labels = tmp_path / "data" / "train-labels-idx1-ubyte.gz"
    images.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 5, 28, 28) + bytes(5 * 28 * 28))
    labels.write_bytes(gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 5) + bytes(5)))
    response = await describe(reader, str(images), f"file://{labels}")
    assert response.num_samples == 5
    assert list(response.columns) == [
        datasets_pb2.Column(name="images", dtype=UINT8, shape=[28, 28]),
        datasets_pb2.Column(name="labels", dtype=INT64),
    ]


async def test_nothing_outside_the_allowed_prefixes_is_read(reader: Client, tmp_path: Path) -> None:
    secret = tmp_path / "data-private" / "x.csv"
    secret.write_text("a\n1\n")
    (tmp_path / "data" / "link.csv").symlink_to(secret)
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "inside.csv").write_text("a\n1\n")
    (tmp_path / "data" / "inner.csv").symlink_to(tmp_path / "data" / "inside.csv")
    assert (await describe(reader, str(tmp_path / "data" / "inner.csv"))).num_samples == 1
    for uri in (
        str(secret),
        f"file://{secret}",
        f"{tmp_path}/data/../data-private/x.csv",
        f"{tmp_path}/data/link.csv",
        f"{tmp_path}/data/up/data-private/x.csv",
        f"{tmp_path}/data-private/absent.csv",
        f"simplecache::file://{secret}",
        "s3://bucket/x.csv",
        "http://127.0.0.1/x.csv",
        f"local://{secret}",
    ):
        error = await refused(describe(reader, uri))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, uri
        assert info_of(error).reason == "URI_NOT_ALLOWED"


async def test_no_file_may_be_read_by_default(client: Client, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    error = await refused(describe(client, str(tmp_path / "x.csv")))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_files_that_are_no_data_are_refused(reader: Client, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    error = await refused(describe(reader, f"{folder}/absent.csv"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    (folder / "x.csv").write_text("a,b\n1,2\nx,3\n")
    error = await refused(describe(reader, f"{folder}/x.csv"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "x.csv" in str(error.details())
    (folder / "x.txt").write_text("")
    assert "format" in str((await refused(describe(reader, f"{folder}/x.txt"))).details())
    (folder / "folder.csv").mkdir()
    assert "not a file" in str((await refused(describe(reader, f"{folder}/folder.csv"))).details())
    assert (await refused(describe(reader))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_server_whose_storage_refuses_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    async with running(tmp_path, storage=str(folder)) as (_, client):
        # It could be written to when the server started, and can't be any more.
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_text("")
        error = await refused(create(client))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert info_of(error).reason == "STORAGE_FAILED"


async def test_damaged_data_is_told_from_a_server_that_fails(
    server: Server, client: Client, tmp_path: Path
) -> None:
    await create(client)
    await upload(client, DATA)
    (tmp_path / "storage" / "datasets" / "default" / "names" / "d.json").write_text("{")
    error = await refused(get(client))
    assert info_of(error).reason == "STORAGE_FAILED"
    assert "datasets/d" in str(error.details())
