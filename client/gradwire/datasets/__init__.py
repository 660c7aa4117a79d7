"""Datasets on the server: upload once, train often.

::

    digits = gradwire.datasets.upload("digits", {"images": images, "labels": labels})
    gradwire.train(model, digits, loss=loss, optimizer=optimizer, epochs=10)

`upload` sends data in pieces, goes on after a broken connection, and sends nothing that the server
has already. `source` refers to files that the server itself can read.
"""

from gradwire.datasets.catalog import delete, get
from gradwire.datasets.catalog import list_datasets as list
from gradwire.datasets.description import Column, FileData, ServerData, StoredDataset
from gradwire.datasets.files import source
from gradwire.datasets.uploading import upload

__all__ = [
    "Column",
    "FileData",
    "ServerData",
    "StoredDataset",
    "delete",
    "get",
    "list",
    "source",
    "upload",
]
