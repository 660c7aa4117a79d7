"""Data in files that the server can read."""

from collections.abc import Mapping, Sequence

from gradwire.connection import current_session
from gradwire.datasets.description import Column, FileData
from gradwire.v1 import datasets_pb2, datasets_pb2_grpc

FORMATS = {
    "safetensors": datasets_pb2.FILE_FORMAT_SAFETENSORS,
    "npz": datasets_pb2.FILE_FORMAT_NPZ,
    "csv": datasets_pb2.FILE_FORMAT_CSV,
    "parquet": datasets_pb2.FILE_FORMAT_PARQUET,
    "idx": datasets_pb2.FILE_FORMAT_IDX,
    "cifar10": datasets_pb2.FILE_FORMAT_CIFAR10,
}
"""The formats by name."""

Columns = Mapping[str, str | Sequence[str]]


def source(*uris: str, format: str | None = None, columns: Columns | None = None) -> FileData:
    """Returns data in files that the server can read, to be trained on without an upload.

    ::

        mnist = gradwire.datasets.source(
            "/data/train-images-idx3-ubyte.gz", "/data/train-labels-idx1-ubyte.gz"
        )
        houses = gradwire.datasets.source(
            "s3://bucket/houses.csv", columns={"features": ["rooms", "area"], "price": "price"}
        )

    A column that several files have is made of theirs, in the order of the files.

    Args:
        uris: Paths of the server, or URLs; the server's setting ``allowed_data_prefixes`` must
            allow them.
        format: One of `FORMATS`; by default what the names of the files end in.
        columns: Which columns to take from each file: new names, and for each the column that it
            is, or several whose numbers are joined to one vector. By default all, as they are.

    Raises:
        NotFoundError: There is no such file.
        AuthenticationError: The server's settings do not allow it.
        ValueError: A file is malformed, or there is no such format or column.
    """
    if not uris:
        raise ValueError("name at least one file")
    if format is not None and format not in FORMATS:
        raise ValueError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
    selections = [
        datasets_pb2.ColumnSelection(
            name=name, columns=[chosen] if isinstance(chosen, str) else chosen
        )
        for name, chosen in (columns or {}).items()
    ]
    files = datasets_pb2.Files(
        files=[
            datasets_pb2.File(
                uri=uri,
                format=FORMATS[format] if format else datasets_pb2.FILE_FORMAT_UNSPECIFIED,
                selections=selections,
            )
            for uri in uris
        ]
    )
    session = current_session()
    stub = datasets_pb2_grpc.DatasetServiceStub(session.channel)
    described = session.call(stub.DescribeFiles, datasets_pb2.DescribeFilesRequest(files=files))
    return FileData(
        columns=tuple(map(Column.of, described.columns)),
        num_samples=described.num_samples,
        files=files,
    )
