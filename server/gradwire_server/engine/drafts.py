"""Checkpoints in the making: the state of a session at one moment, to be written.

The graph of values (see :mod:`gradwire_server.engine.snapshot`) is one part, as JSON; tensors are
parts in the format of safetensors. Large tensors are parts of their own, so that those that do not
change between the checkpoints of a series, such as training data, are written once.

A draft has the state as it is until the session goes on, and then only if it was copied.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from importlib import metadata
from typing import Any, NamedTuple

import safetensors.torch
import torch
import xxhash

from gradwire_server.access.quotas import Quota, Quotas
from gradwire_server.engine.memory import Measured
from gradwire_server.engine.random_state import RandomState
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import (
    Optional,
    Snapshot,
    UnsupportedError,
    take_snapshots,
)
from gradwire_server.engine.spent import restored
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.storage import CheckpointStore, Manifest, Part
from gradwire_server.storage.checkpoints import corrupt, split_name

LARGE_BYTES = 1 << 20
"""Tensors of this size and above are parts of their own."""
MAX_PART_BYTES = 256 << 20
"""Smaller tensors are gathered into parts up to this size."""

# To look it up takes longer than to write a small checkpoint's manifest.
GRADWIRE_VERSION = metadata.version("gradwire")

TensorKey = tuple[str, torch.dtype, torch.Size, bytes]
"""The name, element type, shape, and a hash of the elements of a tensor."""
KnownParts = MutableMapping[TensorKey, Part]
"""Parts of the checkpoint before, by the large tensor that each one holds."""


class _Piece(NamedTuple):
    """A part as bytes, or one that the checkpoint before has; and its tensor, if that is large."""

    kind: str
    data: bytes
    key: TensorKey | None = None
    known: Part | None = None


class Draft(Measured):
    """A checkpoint that is to be written.

    Args:
        session: The session.
        snapshot: Its state.
        client_state: What its client wants to find again.
        facts: Fields of `Manifest`, without the parts.
        known: Parts of the checkpoint before; those of this one take their place.
    """

    def __init__(
        self,
        session: Session,
        snapshot: Snapshot,
        client_state: bytes,
        facts: Mapping[str, Any],
        known: KnownParts | None,
    ) -> None:
        self._store = CheckpointStore(session.storage)
        self._quotas = session.quotas
        self._facts = facts
        self._snapshot: Snapshot | None = snapshot
        self._client_state = client_state
        self._known = {} if known is None else known
        self._copied: list[_Piece] | None = None

    @property
    def num_bytes(self) -> int:
        """How many bytes the copies take; 0 if there are none."""
        return sum(len(piece.data) for piece in self._copied or ())

    def copy(self, session: Session) -> bool:
        """Copies the state, so that it can be written while the session goes on.

        Returns:
            Whether the session may hold so much; else the draft is as it was.
        """
        assert self._snapshot is not None
        sizes = [tensor.nbytes for tensor in self._snapshot.storages.values()]
        try:
            # A part is put together before it is copied.
            session.budget.reserve(sum(sizes) + max(sizes, default=0), "a checkpoint")
            self._copied = list(self._pieces())
        except (GradwireError, MemoryError):
            return False
        self._snapshot = None
        return True

    def write(self) -> Manifest:
        """Writes the checkpoint, all of it or nothing; blocks.

        Raises:
            GradwireError: The tenant has no room for it, or the storage failed.
        """
        name: str = self._facts["name"]
        series, _ = split_name(name)
        room = _Room(self._store, self._facts["tenant"], self._quotas)
        parts: list[Part] = []
        new: list[Part] = []
        known: dict[TensorKey, Part] = {}
        try:
            for piece in self._pieces() if self._copied is None else self._copied:
                part = piece.known or Part.of(piece.kind, piece.data)
                parts.append(part)
                if piece.key is not None:
                    known[piece.key] = part
                if piece.known or self._store.has_part(series, part):
                    continue
                room.take(part.num_bytes)
                new.append(part)
                self._store.write_part(series, part, piece.data)
            manifest = Manifest(parts=tuple(parts), **self._facts)
            self._store.write(manifest)
            # The checkpoint before, which had the others, may have been deleted meanwhile.
            for part in {*parts} - {*new}:
                if not self._store.has_part(series, part):
                    self._store.delete(name)
                    raise corrupt(name, f"its part {part.sha256} was deleted meanwhile")
        except BaseException:
            self._known.clear()
            self._store.drop_parts(series, new)
            raise
        self._known.clear()
        self._known.update(known)
        return manifest

    def _pieces(self) -> Iterator[_Piece]:
        """Yields the parts."""
        snapshot = self._snapshot
        assert snapshot is not None
        if self._client_state:
            yield _Piece("client", self._client_state)
        graph = {"root": snapshot.root, "objects": snapshot.objects}
        yield _Piece("json", json.dumps(graph, separators=(",", ":")).encode())
        gathered: dict[str, torch.Tensor] = {}
        num_bytes = 0
        for name, tensor in snapshot.storages.items():
            on_host = tensor.cpu()
            if on_host.nbytes >= LARGE_BYTES:
                yield self._large_piece(name, on_host)
                continue
            gathered[name] = on_host
            num_bytes += on_host.nbytes
            if num_bytes >= MAX_PART_BYTES:
                yield _Piece("safetensors", safetensors.torch.save(gathered))
                gathered, num_bytes = {}, 0
        if gathered:
            yield _Piece("safetensors", safetensors.torch.save(gathered))

    def _large_piece(self, name: str, tensor: torch.Tensor) -> _Piece:
        elements = tensor.reshape(-1).view(torch.uint8).numpy()
        key = (name, tensor.dtype, tensor.shape, xxhash.xxh3_128_digest(elements.data))
        known = self._known.get(key)
        data = b"" if known else safetensors.torch.save({name: tensor})
        return _Piece("safetensors", data, key, known)


class _Room:
    """What checkpoints may still take: of a session's tenant, and of all together."""

    def __init__(self, store: CheckpointStore, tenant: str, quotas: Quotas) -> None:
        self._tenant = tenant
        self._quotas = quotas
        limited = quotas.has_limits(Quota.TOTAL_CHECKPOINT_BYTES)
        self._in_all, self._own = store.used_bytes(tenant) if limited else (0, 0)

    def take(self, num_bytes: int) -> None:
        """Counts what is about to be written.

        Raises:
            GradwireError: LIMIT_EXCEEDED.
        """
        self._in_all += num_bytes
        self._own += num_bytes
        self._quotas.check(
            Quota.TOTAL_CHECKPOINT_BYTES, self._tenant, in_all=self._in_all, of_tenant=self._own
        )


def draft_checkpoint(
    session: Session,
    name: str,
    *,
    required: Collection[int] = (),
    kept: Mapping[int, Any] | None = None,
    client_state: bytes = b"",
    parked: bool = False,
    known: KnownParts | None = None,
    **facts: Any,
) -> Draft:
    """Returns the state of a session, which must be the active one, as a checkpoint to be written.

    Args:
        session: The session.
        name: The checkpoint's name.
        required: Handles of values that must be in it.
        kept: Values by the handles that they get in a session that begins with the checkpoint.
        client_state: What the client wants to find again.
        parked: Whether the session's own client is to go on with it, which still has the functions
            that callbacks stand for.
        known: Parts of the checkpoint before in its series, which need not be written again.
        facts: Fields of `Manifest` that the caller knows.

    Raises:
        GradwireError: Something that must be kept has no form as data.
    """
    try:
        state = {**_state(session), "kept": Optional(kept or {})}
        values = {handle: restored(value) for handle, value in session.values.items()}
        snapshot, left_out = take_snapshots(state, values, callbacks=parked)
        for handle in required:
            if handle in left_out:
                raise UnsupportedError(f"{left_out[handle]}, the value of handle {handle}")
    except UnsupportedError as error:
        raise GradwireError(
            Reason.NO_CHECKPOINT,
            f"{session.name} holds what can't be part of a checkpoint: {error}",
        ) from error
    facts |= {
        "name": name,
        "create_seconds": time.time(),
        "tenant": session.tenant,
        "session": session.name,
        "num_commands": session.num_commands,
        "last_seq": session.last_seq,
        "exact": session.exact,
        "next_handle": 1 + session.last_client_handle,
        "left_out": {str(handle): why for handle, why in left_out.items()},
        "models": tuple(session.models),
        "run_steps": {name: run.progress.step for name, run in session.runs.items()},
        "parked": parked,
        "gradwire_version": GRADWIRE_VERSION,
        "torch_version": torch.__version__,
    }
    return Draft(session, snapshot, client_state, facts, known)


def _state(session: Session) -> dict[str, Any]:
    return {
        "models": session.models,
        "runs": session.runs,
        "random_state": RandomState.capture(session.device),
        "failed_seq": session.failed_seq,
        "next_handle": session.next_handle,
        "leftovers": session.leftovers.handles(),
    }
