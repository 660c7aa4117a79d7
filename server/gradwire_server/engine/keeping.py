"""The verbs on checkpoints: CreateCheckpoint, and RestoreCheckpoint in a new session."""

import math
import time

from gradwire.v1 import checkpoints_pb2
from gradwire_server.engine.checkpoints import read_checkpoint, write_checkpoint
from gradwire_server.engine.session import Session
from gradwire_server.errors import invalid
from gradwire_server.storage.checkpoints import checkpoint_name

MAX_DISPLAY_NAME_LENGTH = 128
MAX_OBJECTS = 10_000


def create_checkpoint(
    session: Session, request: checkpoints_pb2.CreateCheckpointRequest
) -> checkpoints_pb2.CreateCheckpointResponse:
    """Writes a checkpoint of the session."""
    if len(request.display_name) > MAX_DISPLAY_NAME_LENGTH:
        raise invalid("display_name", f"has more than {MAX_DISPLAY_NAME_LENGTH} characters")
    if len(request.objects) > MAX_OBJECTS:
        raise invalid("objects", f"has {len(request.objects)} entries; {MAX_OBJECTS} at most")
    for name, handle in request.objects.items():
        session.value(handle, f"objects[{name!r}]")
    if not (request.ttl_seconds >= 0 and math.isfinite(request.ttl_seconds)):
        raise invalid("ttl_seconds", f"{request.ttl_seconds} is not a time in seconds")
    session.num_checkpoints += 1
    manifest = write_checkpoint(
        session.storage,
        session,
        checkpoint_name(session.series, session.num_checkpoints),
        display_name=request.display_name,
        objects=dict(request.objects),
        expire_seconds=time.time() + request.ttl_seconds if request.ttl_seconds else 0.0,
    )
    return checkpoints_pb2.CreateCheckpointResponse(checkpoint=manifest.to_message())


def restore_checkpoint(
    session: Session, request: checkpoints_pb2.RestoreCheckpointRequest
) -> checkpoints_pb2.RestoreCheckpointResponse:
    """Gives the session, which is new, the state of a checkpoint."""
    manifest = read_checkpoint(session.storage, session, request.name)
    if request.continues:
        session.num_commands, session.last_seq = manifest.num_commands, manifest.last_seq
    else:
        # The new session has a stream of its own, and whose runs these are goes on elsewhere.
        session.failed_seq = 0
        for run in session.runs.values():
            run.leave()
        session.runs.clear()
    return checkpoints_pb2.RestoreCheckpointResponse(
        checkpoint=manifest.to_message(), next_handle=manifest.next_handle
    )
