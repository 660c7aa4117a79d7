"""Checkpoints: the state of sessions, kept in the storage of a server.

``session.checkpoint()`` writes one, and so does a run; :func:`restore` makes a session of one.
"""

from collections.abc import Sequence

from gradwire.checkpoint import Checkpoint, full_name
from gradwire.connection import find_server, open_session
from gradwire.session import Session
from gradwire.v1 import checkpoints_pb2, checkpoints_pb2_grpc

__all__ = ["Checkpoint", "delete", "get", "list", "restore"]


def restore(
    checkpoint: Checkpoint | str, *, address: str | None = None, token: str | None = None
) -> Session:
    """Opens a session with the values of a checkpoint; operations go to it from now on.

    Its ``objects`` are what the checkpoint was written with, by name: of `session.checkpoint`, what
    was named there; of a run, ``model``, ``optimizer``, and if it had them ``scheduler`` and
    ``average``, the state dict of its moving average. The checkpoint stays, and may be restored
    again.

    Args:
        checkpoint: The checkpoint, its name ``checkpoints/{checkpoint}``, or the last part of that.
        address: The server; None means that of the session in use, else as for
            :func:`gradwire.connect`.
        token: What authenticates the caller; None means the environment's GRADWIRE_TOKEN.

    Raises:
        NotFoundError: There is no such checkpoint.
        DataLossError: It is not what was written.
        LookupError: It holds an object of a class that this program does not have.
    """
    return open_session(find_server(address, token), checkpoint=full_name(checkpoint))


def get(
    checkpoint: Checkpoint | str, *, address: str | None = None, token: str | None = None
) -> Checkpoint:
    """Returns what is known of a checkpoint.

    Args:
        checkpoint: As for :func:`restore`.
        address: As for :func:`restore`.
        token: As for :func:`restore`.

    Raises:
        NotFoundError: There is no such checkpoint.
    """
    server = find_server(address, token)
    stub = checkpoints_pb2_grpc.CheckpointServiceStub(server.channel)
    request = checkpoints_pb2.GetCheckpointRequest(name=full_name(checkpoint))
    return Checkpoint.of(server.call(stub.GetCheckpoint, request).checkpoint)


def list(
    *, run: str = "", address: str | None = None, token: str | None = None
) -> "Sequence[Checkpoint]":
    """Returns the checkpoints of a server, newest first.

    Args:
        run: Only those of this run, ``runs/{run}``.
        address: As for :func:`restore`.
        token: As for :func:`restore`.
    """
    server = find_server(address, token)
    stub = checkpoints_pb2_grpc.CheckpointServiceStub(server.channel)
    request = checkpoints_pb2.ListCheckpointsRequest(run=run)
    found = []
    while True:
        response = server.call(stub.ListCheckpoints, request)
        found += [Checkpoint.of(message) for message in response.checkpoints]
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


def delete(
    checkpoint: Checkpoint | str, *, address: str | None = None, token: str | None = None
) -> None:
    """Deletes a checkpoint; sessions made of it stay.

    Args:
        checkpoint: As for :func:`restore`.
        address: As for :func:`restore`.
        token: As for :func:`restore`.

    Raises:
        NotFoundError: There is no such checkpoint.
    """
    server = find_server(address, token)
    stub = checkpoints_pb2_grpc.CheckpointServiceStub(server.channel)
    request = checkpoints_pb2.DeleteCheckpointRequest(name=full_name(checkpoint))
    server.call(stub.DeleteCheckpoint, request)
