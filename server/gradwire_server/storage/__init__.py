"""Durable data by name, in the folder or bucket that the setting `storage` names; a leaf.

Both the front and the workers open it; it knows neither torch nor gRPC. See `Storage`.
"""

from gradwire_server.storage.checkpoints import CheckpointStore, Manifest, Part
from gradwire_server.storage.storage import Storage, StorageConfig, StoredObject, Writer

__all__ = [
    "CheckpointStore",
    "Manifest",
    "Part",
    "Storage",
    "StorageConfig",
    "StoredObject",
    "Writer",
]
