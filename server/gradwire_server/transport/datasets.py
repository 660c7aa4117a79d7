"""The RPCs of datasets, which the front answers itself."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterable, Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from gradwire.v1 import datasets_pb2
from gradwire.v1.dtypes import BY_DATA_TYPE, BY_NAME
from gradwire_server.access.identity import caller
from gradwire_server.access.quotas import Quota, Quotas
from gradwire_server.calls import note_resource
from gradwire_server.datasets.columns import Column, Schema
from gradwire_server.datasets.files import open_files
from gradwire_server.datasets.store import (
    Contents,
    Dataset,
    DatasetStore,
    dataset_id,
    dataset_not_found,
)
from gradwire_server.datasets.uploads import Upload, uploads_folder
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage
from gradwire_server.transport.keys import decode

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_SHA256_BYTES = 32


class DatasetRpcs:
    """Answers the RPCs about datasets.

    Each method takes and returns serialized messages, and raises `GradwireError`.

    Args:
        storage: Where datasets are.
        limits: The limits in force.
        quotas: What tenants may use.
    """

    def __init__(self, storage: Storage, limits: Limits, quotas: Quotas) -> None:
        self._storage = storage
        self._limits = limits
        self._quotas = quotas
        self._uploads: dict[tuple[str, str], Upload] = {}
        # What is stored changes under this lock, what an upload holds under the upload's.
        self._lock = asyncio.Lock()

    async def create_dataset(self, payload: bytes) -> bytes:
        """CreateDataset."""
        request = decode(datasets_pb2.CreateDatasetRequest, payload)
        name = f"datasets/{request.dataset_id}"
        dataset_id(name, "dataset_id")
        note_resource(name)
        contents = contents_of(request.dataset, self._limits)
        async with self._lock:
            message = await asyncio.to_thread(self._create, self._store(), name, contents)
        return datasets_pb2.CreateDatasetResponse(dataset=message).SerializeToString()

    async def upload_dataset(self, pieces: AsyncIterable[bytes]) -> bytes:
        """UploadDataset."""
        upload: Upload | None = None
        offset = 0
        async for payload in pieces:
            self._quotas.check_message(len(payload), caller().tenant)
            piece = decode(datasets_pb2.UploadDatasetRequest, payload)
            if upload is None:
                dataset_id(piece.name)
                note_resource(piece.name)
                upload = self._uploads.get(_key(piece.name))
                if upload is None:
                    raise _not_announced(piece.name)
                offset = piece.offset
            # Another call may have finished or given up the upload meanwhile.
            if self._uploads.get(_key(upload.name)) is not upload:
                raise _not_announced(upload.name)
            await asyncio.to_thread(upload.add, offset, piece.data)
            offset += len(piece.data)
        if upload is None:
            raise invalid("name", "is required; the stream ended without a message")
        async with self._lock:
            message = await asyncio.to_thread(self._finish, self._store(), upload)
        return datasets_pb2.UploadDatasetResponse(dataset=message).SerializeToString()

    async def get_dataset(self, payload: bytes) -> bytes:
        """GetDataset."""
        request = decode(datasets_pb2.GetDatasetRequest, payload)
        found = await asyncio.to_thread(self._store().find, request.name)
        if found is not None:
            message = dataset_message(found)
        elif _key(request.name) in self._uploads:
            message = upload_message(self._uploads[_key(request.name)])
        else:
            raise dataset_not_found(request.name)
        return datasets_pb2.GetDatasetResponse(dataset=message).SerializeToString()

    async def list_datasets(self, payload: bytes) -> bytes:
        """ListDatasets."""
        request = decode(datasets_pb2.ListDatasetsRequest, payload)
        if request.page_size < 0:
            raise invalid("page_size", f"is {request.page_size}; must not be negative")
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = _after(request.page_token)
        datasets = await asyncio.to_thread(self._page, self._store(), after, size + 1)
        response = datasets_pb2.ListDatasetsResponse(
            datasets=[dataset_message(dataset) for dataset in datasets[:size]]
        )
        if len(datasets) > size:
            token = base64.urlsafe_b64encode(datasets[size - 1].name.encode())
            response.next_page_token = token.decode()
        return response.SerializeToString()

    async def delete_dataset(self, payload: bytes) -> bytes:
        """DeleteDataset."""
        request = decode(datasets_pb2.DeleteDatasetRequest, payload)
        dataset_id(request.name)
        note_resource(request.name)
        async with self._lock:
            upload = self._uploads.pop(_key(request.name), None)
            if upload is None:
                await asyncio.to_thread(self._store().delete, request.name)
            else:
                await asyncio.to_thread(upload.remove)
        return datasets_pb2.DeleteDatasetResponse().SerializeToString()

    async def describe_files(self, payload: bytes) -> bytes:
        """DescribeFiles."""
        request = decode(datasets_pb2.DescribeFilesRequest, payload)
        table = await asyncio.to_thread(
            open_files, self._storage, self._limits, request.files, "files"
        )
        response = datasets_pb2.DescribeFilesResponse(
            columns=schema_message(table.schema), num_samples=table.schema.num_samples
        )
        return response.SerializeToString()

    def _store(self) -> DatasetStore:
        return DatasetStore(self._storage, caller().tenant)

    def _create(self, store: DatasetStore, name: str, contents: Contents) -> datasets_pb2.Dataset:
        found = store.find(name)
        if found is not None:
            if found.contents.key != contents.key:
                raise _taken(name)
            return dataset_message(found)
        if store.holds(contents):
            self._uploads.pop(_key(name), None)
            return dataset_message(store.put(name, contents))
        upload = self._uploads.get(_key(name))
        if upload is None or upload.contents.key != contents.key:
            folder = uploads_folder(self._storage, caller().tenant)
            others = {each.path: each for key, each in self._uploads.items() if key != _key(name)}
            others.pop(folder / contents.key, None)
            self._require_room(store, contents, others.values())
            upload = Upload(name, contents, folder)
            missing = contents.schema.data_bytes - upload.stored_bytes
            try:
                self._storage.require_space(name, missing)
            except GradwireError:
                upload.remove()
                raise
            self._uploads[_key(name)] = upload
        if upload.complete:
            return self._finish(store, upload)
        return upload_message(upload)

    def _require_room(
        self, store: DatasetStore, contents: Contents, others: Iterable[Upload]
    ) -> None:
        """Checks that data may be stored beside what there is and what is arriving."""
        tenant = caller().tenant
        in_all, of_tenant = store.used_bytes()
        for upload in others:
            size = upload.contents.schema.data_bytes
            in_all += size
            of_tenant += size if upload.path.parent.name == tenant else 0
        size = contents.schema.data_bytes
        self._quotas.check(
            Quota.TOTAL_DATASET_BYTES, tenant, in_all=in_all + size, of_tenant=of_tenant + size
        )

    def _finish(self, store: DatasetStore, upload: Upload) -> datasets_pb2.Dataset:
        """Stores an upload if all has arrived; returns what it is by then."""
        if not upload.complete:
            return upload_message(upload)
        found = store.find(upload.name)
        if found is None:
            # Whatever happens, this was the upload: it is stored, or nothing is left of it.
            self._uploads.pop(_key(upload.name), None)
            try:
                upload.verify()
                found = store.put(upload.name, upload.contents, upload.path)
            except BaseException:
                upload.remove()
                raise
        return dataset_message(found)

    def _page(self, store: DatasetStore, after: str, size: int) -> list[Dataset]:
        names = [name for name in store.names() if name > after]
        found = (store.find(name) for name in names[:size])
        return [dataset for dataset in found if dataset is not None]


def _key(name: str) -> tuple[str, str]:
    """Returns what an upload of the caller's is known by."""
    return caller().tenant, name


def contents_of(message: datasets_pb2.Dataset, limits: Limits) -> Contents:
    """Returns the contents that a message announces.

    Raises:
        GradwireError: They can't be, or go over a limit.
    """
    if len(message.content_sha256) != _SHA256_BYTES:
        raise invalid(
            "dataset.content_sha256",
            f"has {len(message.content_sha256)} bytes; a SHA-256 has {_SHA256_BYTES}",
        )
    columns = []
    for index, column in enumerate(message.columns[: limits.max_dataset_columns + 1]):
        row = BY_DATA_TYPE.get(column.dtype)
        if row is None:
            raise invalid(
                f"dataset.columns[{index}].dtype", f"{column.dtype} is none that tensors can have"
            )
        columns.append(Column(name=column.name, dtype=row.name, shape=tuple(column.shape)))
    schema = Schema(columns=tuple(columns), num_samples=message.num_samples)
    schema.check(limits)
    return Contents(schema=schema, sha256=message.content_sha256.hex())


def schema_message(schema: Schema) -> list[datasets_pb2.Column]:
    """Returns columns as messages."""
    return [
        datasets_pb2.Column(
            name=column.name,
            dtype=BY_NAME[column.dtype].data_type,  # type: ignore[arg-type]
            shape=column.shape,
        )
        for column in schema.columns
    ]


def dataset_message(dataset: Dataset) -> datasets_pb2.Dataset:
    """Returns a dataset as a message."""
    message = _contents_message(dataset.name, dataset.contents)
    message.state = datasets_pb2.DATASET_STATE_READY
    message.stored_bytes = message.size_bytes
    time = Timestamp()
    time.FromDatetime(dataset.create_time)
    message.create_time.CopyFrom(time)
    return message


def upload_message(upload: Upload) -> datasets_pb2.Dataset:
    """Returns a dataset that is arriving as a message."""
    message = _contents_message(upload.name, upload.contents)
    message.state = datasets_pb2.DATASET_STATE_UPLOADING
    message.stored_bytes = upload.stored_bytes
    return message


def _contents_message(name: str, contents: Contents) -> datasets_pb2.Dataset:
    return datasets_pb2.Dataset(
        name=name,
        columns=schema_message(contents.schema),
        num_samples=contents.schema.num_samples,
        content_sha256=bytes.fromhex(contents.sha256),
        size_bytes=contents.schema.data_bytes,
    )


def _not_announced(name: str) -> GradwireError:
    return GradwireError(
        Reason.DATASET_NOT_FOUND,
        f"No upload of {name} is announced, or it was finished or given up meanwhile; call "
        "CreateDataset, which says where to go on.",
        metadata={"dataset": name},
    )


def _taken(name: str) -> GradwireError:
    return GradwireError(
        Reason.ALREADY_EXISTS,
        f"{name} exists and holds other data; delete it first, or take another name.",
        metadata={"dataset": name},
    )


def _after(page_token: str) -> str:
    """Returns the name of the last dataset of the page before; empty for the first page."""
    if not page_token:
        return ""
    try:
        name = base64.urlsafe_b64decode(page_token).decode("ascii")
        dataset_id(name)
    except (ValueError, binascii.Error, GradwireError):
        raise invalid("page_token", "is none that ListDatasets returned") from None
    return name
