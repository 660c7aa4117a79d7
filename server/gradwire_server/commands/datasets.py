"""``gradwire datasets``: what is stored, and uploads of files."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table as RichTable
from tqdm import tqdm

from gradwire.v1 import datasets_pb2, values_pb2
from gradwire_server.commands.connection import CallFailedError, Connection, ServerStubs, connecting
from gradwire_server.commands.output import print_table, time_text
from gradwire_server.datasets.files import ENDINGS, format_of
from gradwire_server.datasets.importing import import_file
from gradwire_server.datasets.store import PREFIX
from gradwire_server.datasets.tables import MappedFile, Table
from gradwire_server.errors import GradwireError
from gradwire_server.limits import Limits
from gradwire_server.transport.datasets import schema_message

PAGE_SIZE = 1000
PIECE_BYTES = 1024 * 1024
LEAST = ("created", "columns")
"""What of a dataset matters least."""

app = typer.Typer(name="datasets", help="Datasets in a server's storage.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)]


@app.command("list")
@connecting
def list_datasets(connection: Connection) -> None:
    """Lists the datasets, by name."""
    with connection.open() as stubs:
        listed = list(all_datasets(stubs))
    print_table(dataset_table(listed), LEAST)


@app.command()
@connecting
def show(connection: Connection, name: Name) -> None:
    """Shows the columns of a dataset."""
    with connection.open() as stubs:
        dataset = stubs.call(
            stubs.datasets.GetDataset, datasets_pb2.GetDatasetRequest(name=PREFIX + name)
        ).dataset
    print_table(dataset_table([dataset]), LEAST)
    typer.echo(f"SHA-256 {dataset.content_sha256.hex()}")
    print_table(column_table(dataset))


@app.command()
@connecting
def upload(
    connection: Connection,
    name: Name,
    files: Annotated[
        list[Path],
        typer.Argument(
            help=f"Files with the data; their names end in {', '.join(ENDINGS)}. A column that "
            "several files have is made of theirs, in order.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
) -> None:
    """Uploads files as a dataset. After a failure the same command goes on where it got to."""
    with tempfile.TemporaryDirectory(prefix="gradwire-") as folder, connection.open() as stubs:
        try:
            table = open_local(files, Path(folder))
        except (GradwireError, ValueError) as error:
            raise CallFailedError(str(error)) from None
        dataset = send(stubs, name, table)
    print_table(dataset_table([dataset]), LEAST)


@app.command()
@connecting
def delete(connection: Connection, name: Name) -> None:
    """Deletes a dataset, or what was uploaded of it."""
    with connection.open() as stubs:
        stubs.call(
            stubs.datasets.DeleteDataset, datasets_pb2.DeleteDatasetRequest(name=PREFIX + name)
        )
    typer.echo(f"{name} is deleted")


def all_datasets(stubs: ServerStubs) -> Iterator[datasets_pb2.Dataset]:
    """Yields the datasets of all pages."""
    request = datasets_pb2.ListDatasetsRequest(page_size=PAGE_SIZE)
    while True:
        page = stubs.call(stubs.datasets.ListDatasets, request)
        yield from page.datasets
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def dataset_table(listed: Sequence[datasets_pb2.Dataset]) -> RichTable:
    """Returns datasets as a table."""
    table = RichTable("dataset", "state", "samples", "columns", "size", "created")
    for dataset in listed:
        state = datasets_pb2.DatasetState.Name(dataset.state).removeprefix("DATASET_STATE_")
        created = time_text(dataset.create_time) if dataset.HasField("create_time") else ""
        table.add_row(
            *(dataset.name.removeprefix(PREFIX), state.lower(), f"{dataset.num_samples:,}"),
            *(str(len(dataset.columns)), decimal(dataset.size_bytes), created),
        )
    return table


def column_table(dataset: datasets_pb2.Dataset) -> RichTable:
    """Returns the columns of a dataset as a table."""
    table = RichTable("column", "dtype", "sample shape")
    for column in dataset.columns:
        dtype = values_pb2.DataType.Name(column.dtype).removeprefix("DATA_TYPE_").lower()
        table.add_row(column.name, dtype, str(list(column.shape)))
    return table


def open_local(files: Sequence[Path], folder: Path) -> Table:
    """Returns the data of files of this machine.

    Args:
        files: The files.
        folder: Where those of other formats are converted to.

    Raises:
        GradwireError: A file is malformed.
        ValueError: The files do not go together, or one's format is unknown.
    """
    mapped = []
    for index, path in enumerate(files):
        format_name = format_of(path.name)
        if format_name is None:
            raise ValueError(f"{path}: does not end as a known format does ({', '.join(ENDINGS)})")
        source = path
        if format_name != "safetensors":
            source = folder / str(index)
            import_file(path, source, format_name=format_name, selections=(), limits=Limits())
        mapped.append(MappedFile(source))
    return Table(mapped, fingerprint="")


def send(stubs: ServerStubs, name: str, table: Table) -> datasets_pb2.Dataset:
    """Announces a table and sends what the server lacks; returns the stored dataset."""
    digest = hashlib.sha256()
    with _bar("hashing", table) as bar:
        for piece in _pieces(table, 0):
            digest.update(piece)
            bar.update(len(piece))
    announced = datasets_pb2.Dataset(
        columns=schema_message(table.schema),
        num_samples=table.schema.num_samples,
        content_sha256=digest.digest(),
    )
    request = datasets_pb2.CreateDatasetRequest(dataset_id=name, dataset=announced)
    dataset: datasets_pb2.Dataset = stubs.call(stubs.datasets.CreateDataset, request).dataset
    if dataset.state == datasets_pb2.DATASET_STATE_READY:
        return dataset
    with _bar(f"uploading {name}", table) as bar:
        bar.update(dataset.stored_bytes)
        requests = _requests(PREFIX + name, table, dataset.stored_bytes, bar)
        sent: datasets_pb2.Dataset = stubs.call(
            stubs.datasets.UploadDataset, requests, timeout_seconds=None
        ).dataset
    return sent


def _requests(
    name: str, table: Table, offset: int, bar: "tqdm[Any]"
) -> Iterator[datasets_pb2.UploadDatasetRequest]:
    first: dict[str, Any] = {"name": name, "offset": offset}
    for piece in _pieces(table, offset):
        yield datasets_pb2.UploadDatasetRequest(data=piece, **first)
        bar.update(len(piece))
        first = {}


def _pieces(table: Table, offset: int) -> Iterator[bytes]:
    """Yields the data of a table from an offset on."""
    for column in table.schema.columns:
        size = column.sample_bytes
        num_bytes = table.schema.num_samples * size
        if offset >= num_bytes:
            offset -= num_bytes
            continue
        rows = max(1, PIECE_BYTES // size)
        for begin in range(offset // size, table.schema.num_samples, rows):
            data = table.take(column.name, slice(begin, begin + rows)).tobytes()
            if offset:
                data, offset = data[offset % size :], 0
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]


def _bar(text: str, table: Table) -> "tqdm[Any]":
    return tqdm(
        desc=text,
        total=table.schema.data_bytes,
        disable=None,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        dynamic_ncols=True,
        leave=False,
    )
