"""Sessions from their checkpoints; what these are is in :mod:`gradwire_server.engine.drafts`."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch

from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.modules import find_member
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import Rebuilder, Snapshot
from gradwire_server.storage import CheckpointStore, Manifest, Storage
from gradwire_server.storage.checkpoints import ANSWERS, corrupt


class _Context:
    """What objects need to be rebuilt in a session."""

    def __init__(self, session: Session, *, continues: bool) -> None:
        self.session = session
        self._continues = continues
        self.scope = session.scope
        self.member = find_member
        self.max_operations = session.limits.max_program_operations
        self.callback = session.callback

    def own_callback(self, number: int) -> Callback | None:
        """Returns the stand-in for a function, if the client that has it goes on."""
        return self.session.callback(number) if self._continues else None


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
        if part.kind == ANSWERS:
            continue
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
        rebuilder = Rebuilder(
            snapshot, device=session.device, context=_Context(session, continues=continues)
        )
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
