"""Checkpoints of sessions: their state as data, in the storage.

The graph of values (see :mod:`gradwire_server.engine.snapshot`) is one part, as JSON; tensors are
parts in the format of safetensors. Large tensors are parts of their own, so that those that do not
change between the checkpoints of a series, such as training data, are written once.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

import safetensors.torch
import torch

from gradwire_server.access.quotas import Quota
from gradwire_server.engine.modules import find_member
from gradwire_server.engine.random_state import RandomState
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import (
    Optional,
    Rebuilder,
    Snapshot,
    UnsupportedError,
    take_snapshots,
)
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.storage import CheckpointStore, Manifest, Part, Storage
from gradwire_server.storage.checkpoints import corrupt, split_name

LARGE_BYTES = 1 << 20
"""Tensors of this size and above are parts of their own."""
MAX_PART_BYTES = 256 << 20
"""Smaller tensors are gathered into parts up to this size."""


class _Context:
    """What objects need to be rebuilt in a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.scope = session.scope
        self.member = find_member
        self.max_operations = session.limits.max_program_operations
        self.callback = session.callback


class _Room:
    """What checkpoints may still take: of a session's tenant, and of all together."""

    def __init__(self, store: CheckpointStore, session: Session) -> None:
        self._tenant = session.tenant
        self._quotas = session.quotas
        limited = self._quotas.has_limits(Quota.TOTAL_CHECKPOINT_BYTES)
        self._in_all, self._own = store.used_bytes(self._tenant) if limited else (0, 0)

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


def write_checkpoint(
    storage: Storage,
    session: Session,
    name: str,
    *,
    required: Collection[int] = (),
    kept: Mapping[int, Any] | None = None,
    client_state: bytes = b"",
    parked: bool = False,
    **facts: Any,
) -> Manifest:
    """Writes the state of a session, which must be the active one.

    Args:
        storage: Where to.
        session: The session.
        name: The checkpoint's name.
        required: Handles of values that must be in it.
        kept: Values by the handles that they get in a session that begins with the checkpoint.
        client_state: What the client wants to find again.
        parked: Whether the session's own client is to go on with it, which still has the functions
            that callbacks stand for.
        facts: Fields of `Manifest` that the caller knows.

    Raises:
        GradwireError: Something that must be kept has no form as data, the tenant has no room for
            it, or the storage failed; then nothing was left there.
    """
    try:
        state = {**_state(session), "kept": Optional(kept or {})}
        snapshot, left_out = take_snapshots(state, session.values, callbacks=parked)
        for handle in required:
            if handle in left_out:
                raise UnsupportedError(f"{left_out[handle]}, the value of handle {handle}")
    except UnsupportedError as error:
        raise GradwireError(
            Reason.NO_CHECKPOINT,
            f"{session.name} holds what can't be part of a checkpoint: {error}",
        ) from error
    store = CheckpointStore(storage)
    room = _Room(store, session)
    series, _ = split_name(name)
    parts: list[Part] = []
    new: list[Part] = []
    try:
        for kind, data in _parts(snapshot, client_state):
            part = Part.of(kind, data)
            parts.append(part)
            if store.has_part(series, part):
                continue
            room.take(part.num_bytes)
            new.append(part)
            store.write_part(series, part, data)
        manifest = Manifest(
            name=name,
            parts=tuple(parts),
            create_seconds=time.time(),
            tenant=session.tenant,
            session=session.name,
            num_commands=session.num_commands,
            last_seq=session.last_seq,
            exact=session.exact,
            next_handle=1 + session.last_client_handle,
            left_out={str(handle): why for handle, why in left_out.items()},
            models=tuple(session.models),
            parked=parked,
            gradwire_version=metadata.version("gradwire"),
            torch_version=torch.__version__,
            **facts,
        )
        store.write(manifest)
    except BaseException:
        store.drop_parts(series, new)
        raise
    return manifest


def read_checkpoint(
    storage: Storage, session: Session, name: str, *, continues: bool
) -> tuple[Manifest, bytes]:
    """Gives a session, which must be the active one and empty, the state of a checkpoint.

    Args:
        storage: Where it is.
        session: The session.
        name: The checkpoint's name.
        continues: Whether it is the session that the checkpoint was of; else a new one.

    Returns:
        Its manifest, and what the client wanted to find again.

    Raises:
        GradwireError: There is no such checkpoint, or it is not what was written.
    """
    store = CheckpointStore(storage)
    manifest = store.read(name)
    storages: dict[str, torch.Tensor] = {}
    graph: Any = None
    client_state = b""
    for part in manifest.parts:
        data = store.read_part(name, part)
        if part.kind == "json":
            graph = json.loads(data)
        elif part.kind == "client":
            client_state = data
        else:
            session.budget.reserve(part.num_bytes, "RestoreCheckpoint")
            storages |= safetensors.torch.load(data)
    snapshot = Snapshot(root=graph["root"], objects=graph["objects"], storages=storages)
    try:
        rebuilder = Rebuilder(snapshot, device=session.device, context=_Context(session))
        state: Mapping[str, Any] = {
            key: rebuilder.decode(value) for key, value in snapshot.root["state"].items()
        }
        values = {handle: rebuilder.decode(v) for handle, v in snapshot.root["values"]}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise corrupt(name, f"its values can't be rebuilt: {error}") from error
    if not continues:
        values |= state["kept"]
    _load(session, state, values)
    return manifest, client_state


def _state(session: Session) -> dict[str, Any]:
    return {
        "models": session.models,
        "runs": session.runs,
        "random_state": RandomState.capture(session.device),
        "failed_seq": session.failed_seq,
        "next_handle": session.next_handle,
        "leftovers": session.leftovers.handles(),
    }


def _load(session: Session, state: Mapping[str, Any], values: dict[int, Any]) -> None:
    session.models.update(state["models"])
    for model_id, model in session.models.items():
        model.name = f"{session.name}/models/{model_id}"
    session.runs.update(state["runs"])
    session.values.update(values)
    session.failed_seq = state["failed_seq"]
    session.next_handle = state["next_handle"]
    for handles in state["leftovers"]:
        session.leftovers.add([handle for handle in handles if handle in values])
    state["random_state"].restore(session.device)


def _parts(snapshot: Snapshot, client_state: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the kind and the contents of each part."""
    if client_state:
        yield "client", client_state
    graph = {"root": snapshot.root, "objects": snapshot.objects}
    yield "json", json.dumps(graph, separators=(",", ":")).encode()
    gathered: dict[str, torch.Tensor] = {}
    num_bytes = 0
    for name, tensor in snapshot.storages.items():
        size = tensor.numel() * tensor.element_size()
        if size >= LARGE_BYTES:
            yield "safetensors", safetensors.torch.save({name: tensor.cpu()})
            continue
        gathered[name] = tensor.cpu()
        num_bytes += size
        if num_bytes >= MAX_PART_BYTES:
            yield "safetensors", safetensors.torch.save(gathered)
            gathered, num_bytes = {}, 0
    if gathered:
        yield "safetensors", safetensors.torch.save(gathered)
