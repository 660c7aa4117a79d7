"""Checkpoints in the storage: manifests and the parts that they name.

The checkpoint ``checkpoints/{series}-{number}`` is a manifest, the object
``checkpoints/{series}/{number}.json``, which is written last and has the hashes of its parts.
A part is the object ``checkpoints/{series}/parts/{sha256 of its contents}``; checkpoints of one
series share parts. What is in them is for the engine to know. The empty object
``checkpoints/{series}/owner/{tenant}`` says whose the series is, so that a list of the storage
tells how much each tenant has.
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

import structlog

from gradwire.v1 import checkpoints_pb2
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.storage.storage import Storage

log = structlog.get_logger(__name__)

FORMAT_VERSION = 1
UNCHANGING = frozenset(
    {"CreateCheckpoint", "FetchTensors", "FetchValues", "GetModel", "ListModels"}
    | {"CancelRun", "ParkSession", "PauseRun", "RequireRest", "RestoreCheckpoint"}
)
"""Calls that leave a session as it is. Others are counted by the front and by the worker, so that
it can be told whether a checkpoint holds all that was done."""
ANSWERS = "answers"
"""The kind of a part for the front: what a parked session has answered."""
_FOLDER = "checkpoints"
_NAME = re.compile(r"checkpoints/([A-Za-z0-9_]{1,63})-([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a checkpoint: its SHA-256 in hexadecimal digits, its kind, and its size."""

    sha256: str
    kind: str
    num_bytes: int

    @classmethod
    def of(cls, kind: str, data: bytes) -> "Part":
        """Returns the part that has some contents."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), kind=kind, num_bytes=len(data))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint is made of; see `gradwire.v1.Checkpoint` for what is not told here.

    Attributes:
        name: ``checkpoints/{series}-{number}``.
        parts: Its parts.
        create_seconds: When it was written, in seconds since 1970.
        expire_seconds: When it is deleted; 0 if never.
        tenant: Whose it is.
        session: The session.
        num_commands: How many calls that may change it were carried out in the session by then.
        last_seq: The number of the last message of its Execute stream by then.
        exact: Whether the session is exact.
        run_steps: The runs in it that have not ended, and how many steps each has taken.
        parked: Whether it is the session itself, which its next command brings back.
    """

    name: str
    parts: tuple[Part, ...]
    create_seconds: float
    expire_seconds: float = 0.0
    display_name: str = ""
    tenant: str = ""
    session: str = ""
    num_commands: int = 0
    last_seq: int = 0
    exact: bool = True
    next_handle: int = 1
    run: str = ""
    step: int = 0
    run_steps: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    parked: bool = False
    gradwire_version: str = ""
    torch_version: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return 0 < self.expire_seconds <= time.time()

    @property
    def num_bytes(self) -> int:
        """The bytes of all parts."""
        return sum(part.num_bytes for part in self.parts)

    def to_message(self) -> checkpoints_pb2.Checkpoint:
        """Returns what callers are told of the checkpoint."""
        message = checkpoints_pb2.Checkpoint(
            name=self.name,
            display_name=self.display_name,
            num_bytes=self.num_bytes,
            run=self.run,
            step=self.step,
            values=self.values,
            objects=self.objects,
            gradwire_version=self.gradwire_version,
            torch_version=self.torch_version,
            left_out={int(handle): why for handle, why in self.left_out.items()},
            models=self.models,
        )
        message.create_time.FromNanoseconds(int(self.create_seconds * 1e9))
        if self.expire_seconds:
            message.expire_time.FromNanoseconds(int(self.expire_seconds * 1e9))
        return message

    def to_json(self) -> bytes:
        """Returns the manifest as JSON, its own hash included."""
        fields = asdict(self)
        return json.dumps({**fields, "sha256": _digest(fields)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Manifest":
        """Returns the manifest that `to_json` wrote.

        Raises:
            GradwireError: CHECKPOINT_CORRUPT if it is none, or not what was written.
        """
        try:
            fields = json.loads(data)
            if fields.pop("sha256") != _digest(fields):
                raise corrupt(name, "its manifest is not what was written")
            if fields["format_version"] != FORMAT_VERSION:
                raise corrupt(name, f"it has the unknown format {fields['format_version']}")
            parts = tuple(Part(**part) for part in fields.pop("parts"))
            models = tuple(fields.pop("models"))
            return cls(parts=parts, models=models, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise corrupt(name, f"its manifest can't be read: {error}") from error


class CheckpointStore:
    """The checkpoints of a storage.

    All methods block.

    Args:
        storage: The storage.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def used_bytes(self, tenant: str) -> tuple[int, int]:
        """Returns how many bytes the checkpoints of all tenants take, and those of one."""
        in_all: Counter[str] = Counter()
        own: set[str] = set()
        for stored in self._storage.list(_FOLDER):
            _, series, *rest = stored.name.split("/")
            in_all[series] += stored.num_bytes
            if rest == ["owner", tenant]:
                own.add(series)
        return in_all.total(), sum(in_all[series] for series in own)

    def has_part(self, series: str, part: Part) -> bool:
        """Whether a series has a part."""
        path = _part_path(series, part)
        return self._storage.exists(path) and self._storage.size(path) == part.num_bytes

    def write_part(self, series: str, part: Part, data: bytes) -> None:
        """Stores a part."""
        self._storage.write(_part_path(series, part), data)

    def drop_parts(self, series: str, parts: Iterable[Part]) -> None:
        """Removes parts that no manifest names."""
        for part in parts:
            self._storage.delete(_part_path(series, part))

    def write(self, manifest: Manifest) -> None:
        """Stores a manifest, whose parts are there: from now on there is the checkpoint."""
        owner = _owner_path(manifest)
        if owner and not self._storage.exists(owner):
            self._storage.write(owner, b"")
        self._storage.write(_manifest_path(manifest.name), manifest.to_json())

    def add_part(self, manifest: Manifest, kind: str, data: bytes) -> None:
        """Adds a part to a checkpoint."""
        series, _ = split_name(manifest.name)
        part = Part.of(kind, data)
        self.write_part(series, part, data)
        self.write(replace(manifest, parts=(*manifest.parts, part)))

    def read(self, name: str) -> Manifest:
        """Returns the manifest of a checkpoint whose time is not over.

        Raises:
            GradwireError: CHECKPOINT_NOT_FOUND or CHECKPOINT_CORRUPT.
        """
        manifest = self._read(name)
        if manifest.is_expired:
            raise not_found(name)
        return manifest

    def _read(self, name: str) -> Manifest:
        try:
            data = self._storage.read(_manifest_path(name))
        except FileNotFoundError:
            raise not_found(name) from None
        return Manifest.from_json(data, name)

    def read_part(self, name: str, part: Part) -> bytes:
        """Returns a part of a checkpoint.

        Raises:
            GradwireError: CHECKPOINT_CORRUPT if it is missing or not what was written.
        """
        series, _ = split_name(name)
        try:
            data = self._storage.read(_part_path(series, part))
        except FileNotFoundError:
            raise corrupt(name, f"its part {part.sha256} is missing") from None
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise corrupt(name, f"its part {part.sha256} is not what was written")
        return data

    def _list(self, series: str = "") -> list[Manifest]:
        manifests = []
        for stored in self._storage.list(f"{_FOLDER}/{series}" if series else _FOLDER):
            folders = stored.name.split("/")
            if len(folders) != 3 or not folders[2].endswith(".json"):
                continue
            name = f"{_FOLDER}/{folders[1]}-{folders[2].removesuffix('.json')}"
            try:
                manifests.append(self._read(name))
            except GradwireError as error:
                log.warning("checkpoint can't be read", checkpoint=name, error=error.message)
        return sorted(manifests, key=lambda manifest: manifest.create_seconds, reverse=True)

    def list(self, series: str = "") -> list[Manifest]:
        """Returns the manifests that can be read, newest first; of one series if it is given.

        Those whose time is over are not among them.
        """
        return [manifest for manifest in self._list(series) if not manifest.is_expired]

    def delete(self, name: str) -> None:
        """Removes a checkpoint, and the parts that no other of its series names.

        Raises:
            GradwireError: CHECKPOINT_NOT_FOUND.
        """
        series, _ = split_name(name)
        path = _manifest_path(name)
        if not self._storage.exists(path):
            raise not_found(name)
        try:
            parts = set(self._read(name).parts)
        except GradwireError:
            parts = set()  # what it named can't be known
        self._storage.delete(path)
        for other in self._list(series):
            parts -= set(other.parts)
        self.drop_parts(series, parts)
        left = self._storage.list(f"{_FOLDER}/{series}")
        if all(stored.name.split("/")[2] == "owner" for stored in left):
            self.delete_series(series)

    def delete_series(self, series: str) -> None:
        """Removes all checkpoints of a series."""
        self._storage.delete_all(f"{_FOLDER}/{series}")

    def expire(self) -> int:
        """Removes the checkpoints whose time is over; returns how many."""
        expired = [manifest for manifest in self._list() if manifest.is_expired]
        for manifest in expired:
            # Another server on the same storage may be faster.
            with suppress(FileNotFoundError, GradwireError):
                self.delete(manifest.name)
        return len(expired)


def expiry(ttl_seconds: float) -> float:
    """Returns when it is over that begins now, in seconds since 1970; 0 if that is never."""
    return time.time() + ttl_seconds if ttl_seconds else 0.0


def checkpoint_name(series: str, number: int) -> str:
    """Returns the name of a checkpoint."""
    return f"{_FOLDER}/{series}-{number:08d}"


def split_name(name: str) -> tuple[str, str]:
    """Returns series and number of a checkpoint.

    Raises:
        GradwireError: INVALID_REQUEST if it is not of the form of a checkpoint's name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise invalid("name", f"{name[:200]!r} is not of the form checkpoints/{{checkpoint}}")
    return match[1], match[2]


def not_found(name: str) -> GradwireError:
    """Returns the error for a checkpoint that does not exist."""
    return GradwireError(
        Reason.CHECKPOINT_NOT_FOUND,
        f"there is no {name}: it was deleted, it expired, or it was never written; "
        "ListCheckpoints lists those there are",
        metadata={"checkpoint": name},
    )


def corrupt(name: str, why: str) -> GradwireError:
    """Returns the error for a checkpoint that is not what was written."""
    return GradwireError(
        Reason.CHECKPOINT_CORRUPT,
        f"{name} can't be used: {why}. Restore an older one.",
        metadata={"checkpoint": name},
    )


def _manifest_path(name: str) -> str:
    series, number = split_name(name)
    return f"{_FOLDER}/{series}/{number}.json"


def _owner_path(manifest: Manifest) -> str:
    """Returns the object that says whose a checkpoint is; empty if it is nobody's."""
    series, _ = split_name(manifest.name)
    return f"{_FOLDER}/{series}/owner/{manifest.tenant}" if manifest.tenant else ""


def _part_path(series: str, part: Part) -> str:
    return f"{_FOLDER}/{series}/parts/{part.sha256}.{part.kind}"


def _digest(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
