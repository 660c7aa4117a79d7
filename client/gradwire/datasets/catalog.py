"""The datasets that the server holds."""

from gradwire.connection import current_session
from gradwire.datasets.description import PREFIX, StoredDataset
from gradwire.v1 import datasets_pb2, datasets_pb2_grpc


def list_datasets() -> list[StoredDataset]:
    """Returns all datasets that are ready, by name."""
    session = current_session()
    stub = datasets_pb2_grpc.DatasetServiceStub(session.channel)
    found: list[StoredDataset] = []
    token = ""
    while True:
        response = session.call(
            stub.ListDatasets, datasets_pb2.ListDatasetsRequest(page_token=token)
        )
        found.extend(map(StoredDataset.of, response.datasets))
        token = response.next_page_token
        if not token:
            return found


def get(name: str) -> StoredDataset:
    """Returns a dataset: its columns, number of samples, size and hash.

    Raises:
        NotFoundError: There is none of that name, or it was not uploaded to the end.
    """
    session = current_session()
    stub = datasets_pb2_grpc.DatasetServiceStub(session.channel)
    dataset = session.call(
        stub.GetDataset, datasets_pb2.GetDatasetRequest(name=PREFIX + name)
    ).dataset
    return StoredDataset.of(dataset)


def delete(name: str) -> None:
    """Deletes a dataset, or what was uploaded of it. Runs that read it go on.

    Raises:
        NotFoundError: There is none of that name.
    """
    session = current_session()
    stub = datasets_pb2_grpc.DatasetServiceStub(session.channel)
    session.call(stub.DeleteDataset, datasets_pb2.DeleteDatasetRequest(name=PREFIX + name))
