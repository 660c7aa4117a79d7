"""The store of datasets: manifests by name, data by content.

In the storage, ``datasets/{tenant}/names/{id}.json`` says what a dataset is, and
``datasets/{tenant}/data/{content}.safetensors`` is its data, which several names may share. Tenants
share nothing: who knows the hash of somebody's data must not get it for that.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gradwire_server.datasets.columns import Schema
from gradwire_server.datasets.tables import MappedFile, Table
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.storage import Storage

FORMAT_VERSION = 1

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
PREFIX = "datasets/"
"""How the names of datasets begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a dataset holds: equal contents are stored once.

    Attributes:
        schema: The columns.
        sha256: The hash of the data in hexadecimal digits; see Dataset.content_sha256.
    """

    schema: Schema
    sha256: str

    @property
    def key(self) -> str:
        """The name of the contents: a hash of schema and data."""
        text = json.dumps([self.schema.to_json(), self.sha256], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset that is ready.

    Attributes:
        name: ``datasets/{dataset}``.
        contents: What it holds.
        create_time: When it was stored.
    """

    name: str
    contents: Contents
    create_time: datetime


class DatasetStore:
    """The datasets of a tenant, by name. All methods block.

    Args:
        storage: Where they are.
        tenant: Whose they are.
    """

    def __init__(self, storage: Storage, tenant: str) -> None:
        self._storage = storage
        self._folder = f"datasets/{tenant}"

    def get(self, name: str) -> Dataset:
        """Returns a dataset.

        Raises:
            GradwireError: DATASET_NOT_FOUND, or the name is malformed.
        """
        dataset = self.find(name)
        if dataset is None:
            raise dataset_not_found(name)
        return dataset

    def find(self, name: str) -> Dataset | None:
        """Returns a dataset, or None if there is none of that name."""
        try:
            manifest = json.loads(self._storage.read(self._manifest(name)))
        except FileNotFoundError:
            return None
        except ValueError:
            raise _damaged(name, "its manifest is not JSON") from None
        if manifest.get("format_version") != FORMAT_VERSION:
            raise _damaged(
                name, f"its manifest has format version {manifest.get('format_version')}"
            )
        return Dataset(
            name=name,
            contents=Contents(schema=Schema.from_json(manifest), sha256=manifest["content_sha256"]),
            create_time=datetime.fromisoformat(manifest["create_time"]),
        )

    def names(self) -> list[str]:
        """Returns the names of all datasets, sorted."""
        return [
            PREFIX + each.name.removeprefix(f"{self._folder}/names/").removesuffix(".json")
            for each in self._storage.list(f"{self._folder}/names")
        ]

    def holds(self, contents: Contents) -> bool:
        """Whether the data is stored, under whatever name."""
        return self._storage.exists(self._data(contents))

    def used_bytes(self) -> tuple[int, int]:
        """Returns how many bytes the datasets of all tenants take, and those of this one."""
        stored = self._storage.list("datasets")
        own = [each for each in stored if each.name.startswith(f"{self._folder}/")]
        return sum(each.num_bytes for each in stored), sum(each.num_bytes for each in own)

    def put(self, name: str, contents: Contents, path: Path | None = None) -> Dataset:
        """Stores a dataset.

        Args:
            name: Its name.
            contents: What it holds.
            path: A safetensors file with that, which is moved into the storage; None if the
                storage holds the data already.
        """
        if path is not None:
            self._storage.put_file(path, self._data(contents))
        dataset = Dataset(name=name, contents=contents, create_time=datetime.now(UTC))
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "gradwire_version": metadata.version("gradwire"),
            "name": name,
            **contents.schema.to_json(),
            "content_sha256": contents.sha256,
            "data": self._data(contents),
            "create_time": dataset.create_time.isoformat(),
        }
        self._storage.write(self._manifest(name), json.dumps(manifest, indent=1).encode())
        return dataset

    def delete(self, name: str) -> None:
        """Deletes a dataset, and its data unless another has the same.

        Raises:
            GradwireError: DATASET_NOT_FOUND, or the name is malformed.
        """
        contents = self.get(name).contents
        self._storage.delete(self._manifest(name))
        others = (self.find(other) for other in self.names())
        if all(other is None or other.contents.key != contents.key for other in others):
            self._storage.delete(self._data(contents))

    def open(self, name: str) -> Table:
        """Returns the data of a dataset, mapped into memory.

        Raises:
            GradwireError: DATASET_NOT_FOUND, or the data is damaged.
        """
        dataset = self.get(name)
        try:
            file = MappedFile(self._storage.local_path(self._data(dataset.contents)))
        except FileNotFoundError:
            raise _damaged(name, "its data is missing") from None
        except ValueError as error:
            raise _damaged(name, str(error)) from None
        if file.schema != dataset.contents.schema:
            raise _damaged(name, "its data does not have the columns of its manifest")
        return Table([file], fingerprint=dataset.contents.key)

    def _manifest(self, name: str) -> str:
        return f"{self._folder}/names/{dataset_id(name)}.json"

    def _data(self, contents: Contents) -> str:
        return f"{self._folder}/data/{contents.key}.safetensors"


def dataset_not_found(name: str) -> GradwireError:
    """Returns the error for a dataset that does not exist."""
    return GradwireError(
        Reason.DATASET_NOT_FOUND,
        f"There is no dataset {name}; ListDatasets tells which there are.",
        metadata={"dataset": name},
    )


def dataset_id(name: str, field: str = "name") -> str:
    """Returns the id of a dataset.

    Raises:
        GradwireError: The name is not of the form ``datasets/{dataset}``; INVALID_REQUEST.
    """
    found = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or not _ID.fullmatch(found):
        raise invalid(
            field,
            f'"{name[:100]}" is not of the form datasets/{{dataset}}, with an id of 1 to 63 '
            "letters, digits, '.', '_' and '-' that begins with a letter or a digit",
        )
    return found


def _damaged(name: str, why: str) -> GradwireError:
    return GradwireError(
        Reason.STORAGE_FAILED, f"{name} is damaged: {why}. Delete it and upload it again."
    )
