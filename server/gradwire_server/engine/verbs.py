"""The RPCs that workers answer: one row each."""

import inspect
from collections.abc import Callable, Generator, Sequence
from functools import cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.message import Message

from gradwire.v1 import checkpoints_pb2, models_pb2, runs_pb2, server_pb2, sessions_pb2
from gradwire_server.engine import feeds, keeping, models, passes, rest, running, steps, tensors
from gradwire_server.engine.failures import operation
from gradwire_server.engine.registry import KIND_OF_NAME, torch_object
from gradwire_server.engine.session import OWN_OPERATIONS, Session


class Unary(NamedTuple):
    """An RPC that is done in one turn."""

    request: type[Message]
    handler: Callable[[Session, Any], Message]


class Lasting(NamedTuple):
    """An RPC whose handler yields as long as it takes, and then returns the response.

    The session's commands after it wait, those of others do not.
    """

    request: type[Message]
    handler: Callable[[Session, Any], Generator[None, None, Message]]


class Waiting(NamedTuple):
    """An RPC beside the session's commands, whose handler yields as long as it can't go on.

    Then it returns the response.
    """

    request: type[Message]
    handler: Callable[[Session, Any], Generator[None, None, Message]]


class Streaming(NamedTuple):
    """An RPC whose handler yields, once a step, the responses to send; None if it has to wait."""

    request: type[Message]
    handler: Callable[[Session, Any], Generator[Sequence[Message] | None, None, None]]


def fetch_values(
    session: Session, request: sessions_pb2.FetchValuesRequest
) -> sessions_pb2.FetchValuesResponse:
    """Returns session values."""
    values = [session.value(h, f"handles[{index}]") for index, h in enumerate(request.handles)]
    with operation("FetchValues"):
        return sessions_pb2.FetchValuesResponse(values=session.encode(values))


def release_values(
    session: Session, request: sessions_pb2.ReleaseValuesRequest
) -> sessions_pb2.ReleaseValuesResponse:
    """Forgets session values."""
    session.release(request.handles)
    return sessions_pb2.ReleaseValuesResponse()


@cache
def catalog_response() -> server_pb2.GetCatalogResponse:
    """Returns all names with kind and signature."""
    entries = [
        server_pb2.CatalogEntry(name=name, kind=kind, signature=_signature(torch_object(name)))
        for name, kind in KIND_OF_NAME.items()
    ]
    entries += [
        server_pb2.CatalogEntry(
            name=name,
            kind=server_pb2.CATALOG_KIND_INTRINSIC,
            signature=_signature(call if subject is None else partial(call, None)),
        )
        for name, (call, subject) in OWN_OPERATIONS.items()
    ]
    entries.sort(key=attrgetter("name"))
    return server_pb2.GetCatalogResponse(entries=entries)


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (ValueError, TypeError):
        # Built-in functions of torch carry no signature that Python can read.
        return ""


SESSION_VERBS: dict[str, Unary | Lasting | Waiting | Streaming] = {
    "FetchValues": Unary(sessions_pb2.FetchValuesRequest, fetch_values),
    "ReleaseValues": Unary(sessions_pb2.ReleaseValuesRequest, release_values),
    "CreateModel": Unary(models_pb2.CreateModelRequest, models.create_model),
    "GetModel": Unary(models_pb2.GetModelRequest, models.get_model),
    "ListModels": Unary(models_pb2.ListModelsRequest, models.list_models),
    "DeleteModel": Unary(models_pb2.DeleteModelRequest, models.delete_model),
    "Forward": Unary(models_pb2.ForwardRequest, passes.forward),
    "ComputeLoss": Unary(models_pb2.ComputeLossRequest, passes.compute_loss),
    "Backward": Unary(models_pb2.BackwardRequest, passes.backward),
    "ZeroGrad": Unary(models_pb2.ZeroGradRequest, passes.zero_grad),
    "Step": Unary(models_pb2.StepRequest, steps.step),
    "FetchTensors": Unary(models_pb2.FetchTensorsRequest, tensors.fetch_tensors),
    "SetTensors": Unary(models_pb2.SetTensorsRequest, tensors.set_tensors),
    "Train": Streaming(runs_pb2.TrainRequest, running.train),
    "FeedRun": Waiting(runs_pb2.FeedRunRequest, feeds.feed_run),
    "ResumeRun": Streaming(runs_pb2.ResumeRunRequest, running.resume_run),
    "CancelRun": Unary(runs_pb2.CancelRunRequest, running.cancel_run),
    "PauseRun": Unary(runs_pb2.PauseRunRequest, running.pause_run),
    "CreateCheckpoint": Lasting(checkpoints_pb2.CreateCheckpointRequest, keeping.create_checkpoint),
    "RequireRest": Unary(sessions_pb2.GetSessionRequest, rest.require_rest),
    "ParkSession": Lasting(checkpoints_pb2.Checkpoint, keeping.park_session),
    "RestoreCheckpoint": Unary(
        checkpoints_pb2.RestoreCheckpointRequest, keeping.restore_checkpoint
    ),
}
"""The RPCs on a session, by method name, and the front's own, RequireRest and ParkSession; Execute
is the one beside them."""
