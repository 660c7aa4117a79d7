"""The verbs on checkpoints: CreateCheckpoint, and RestoreCheckpoint in a new session."""

import math
from collections.abc import Generator

from gradwire.v1 import checkpoints_pb2
from gradwire.v1.handles import FIRST_SERVER_HANDLE
from gradwire_server.engine.checkpoints import read_checkpoint
from gradwire_server.engine.drafts import draft_checkpoint
from gradwire_server.engine.session import Session
from gradwire_server.engine.writing import written
from gradwire_server.errors import invalid
from gradwire_server.storage.checkpoints import checkpoint_name, expiry

MAX_DISPLAY_NAME_LENGTH = 128
MAX_OBJECTS = 10_000
MAX_CLIENT_STATE_BYTES = 16 << 20


def create_checkpoint(
    session: Session, request: checkpoints_pb2.CreateCheckpointRequest
) -> Generator[None, None, checkpoints_pb2.CreateCheckpointResponse]:
    """Writes a checkpoint of the session; yields as long as that takes."""
    if len(request.display_name) > MAX_DISPLAY_NAME_LENGTH:
        raise invalid("display_name", f"has more than {MAX_DISPLAY_NAME_LENGTH} characters")
    if len(request.objects) > MAX_OBJECTS:
        raise invalid("objects", f"has {len(request.objects)} entries; {MAX_OBJECTS} at most")
    for name, handle in request.objects.items():
        session.value(handle, f"objects[{name!r}]")
    for index, handle in enumerate(request.required_handles):
        session.value(handle, f"required_handles[{index}]")
    require_client_state(request.client_state)
    if not (request.ttl_seconds >= 0 and math.isfinite(request.ttl_seconds)):
        raise invalid("ttl_seconds", f"{request.ttl_seconds} is not a time in seconds")
    session.num_checkpoints += 1
    draft = draft_checkpoint(
        session,
        checkpoint_name(session.series, session.num_checkpoints),
        display_name=request.display_name,
        objects=dict(request.objects),
        required={*request.objects.values(), *request.required_handles},
        client_state=request.client_state,
        expire_seconds=expiry(request.ttl_seconds or session.limits.checkpoint_ttl_seconds),
    )
    manifest = yield from written(session, draft)
    return checkpoints_pb2.CreateCheckpointResponse(checkpoint=manifest.to_message())


def park_session(
    session: Session, request: checkpoints_pb2.Checkpoint
) -> Generator[None, None, checkpoints_pb2.Checkpoint]:
    """Writes the checkpoint that a session is brought back from, as the front asks for it."""
    draft = draft_checkpoint(
        session,
        request.name,
        display_name=request.display_name,
        expire_seconds=request.expire_time.ToNanoseconds() / 1e9,
        parked=True,
    )
    manifest = yield from written(session, draft)
    return manifest.to_message()


def require_client_state(state: bytes) -> None:
    """Raises unless what a client wants to find again is small enough."""
    if len(state) > MAX_CLIENT_STATE_BYTES:
        raise invalid("client_state", f"has {len(state)} bytes; {MAX_CLIENT_STATE_BYTES} at most")


def restore_checkpoint(
    session: Session, request: checkpoints_pb2.RestoreCheckpointRequest
) -> checkpoints_pb2.RestoreCheckpointResponse:
    """Gives the session, which is new, the state of a checkpoint."""
    manifest, client_state = read_checkpoint(
        session.storage, session, request.name, continues=request.continues
    )
    if request.continues:
        session.left_out = {int(handle): why for handle, why in manifest.left_out.items()}
        session.num_commands, session.last_seq = manifest.num_commands, manifest.last_seq
    else:
        # The new session has a stream of its own, and whose runs these are goes on elsewhere.
        session.failed_seq = 0
        for run in session.runs.values():
            run.leave()
        session.runs.clear()
    return checkpoints_pb2.RestoreCheckpointResponse(
        checkpoint=manifest.to_message(),
        next_handle=manifest.next_handle,
        client_state=client_state,
        handles=sorted(handle for handle in session.values if handle < FIRST_SERVER_HANDLE),
    )
