"""Where each RPC goes."""

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache

from google.protobuf.descriptor import ServiceDescriptor

from gradwire.v1 import (
    checkpoints_pb2,
    datasets_pb2,
    models_pb2,
    runs_pb2,
    server_pb2,
    sessions_pb2,
)
from gradwire_server.access.identity import Role

SERVICES: tuple[ServiceDescriptor, ...] = (
    sessions_pb2.DESCRIPTOR.services_by_name["SessionService"],
    models_pb2.DESCRIPTOR.services_by_name["ModelService"],
    runs_pb2.DESCRIPTOR.services_by_name["RunService"],
    datasets_pb2.DESCRIPTOR.services_by_name["DatasetService"],
    checkpoints_pb2.DESCRIPTOR.services_by_name["CheckpointService"],
    server_pb2.DESCRIPTOR.services_by_name["ServerService"],
)
"""The services of the contract."""


class Route(Enum):
    """Where an RPC is answered."""

    FRONT = auto()
    """Here."""
    UPLOAD = auto()
    """Here; many requests."""
    ANY_WORKER = auto()
    """By any ready worker; it concerns no session."""
    SESSION = auto()
    """By the worker of the session that the request names."""
    SESSION_OR_NEW = auto()
    """As SESSION; if the request names none, one is made."""
    RUN = auto()
    """By the worker of the session; many responses, which are kept."""
    WATCH = auto()
    """Here; many responses."""
    EXECUTE = auto()
    """By the worker of the session; many requests, each with one response."""


ROUTES: Mapping[str, Route] = {
    "SessionService.CreateSession": Route.FRONT,
    "SessionService.GetSession": Route.FRONT,
    "SessionService.ListSessions": Route.FRONT,
    "SessionService.DeleteSession": Route.FRONT,
    "SessionService.Execute": Route.EXECUTE,
    "SessionService.FetchValues": Route.SESSION,
    "SessionService.ReleaseValues": Route.SESSION,
    "SessionService.CreateRegion": Route.FRONT,
    "ModelService.CreateModel": Route.SESSION_OR_NEW,
    "ModelService.GetModel": Route.SESSION,
    "ModelService.ListModels": Route.SESSION,
    "ModelService.DeleteModel": Route.SESSION,
    "ModelService.Forward": Route.SESSION,
    "ModelService.ComputeLoss": Route.SESSION,
    "ModelService.Backward": Route.SESSION,
    "ModelService.ZeroGrad": Route.SESSION,
    "ModelService.Step": Route.SESSION,
    "ModelService.FetchTensors": Route.SESSION,
    "ModelService.SetTensors": Route.SESSION,
    "RunService.Train": Route.RUN,
    "DatasetService.CreateDataset": Route.FRONT,
    "DatasetService.UploadDataset": Route.UPLOAD,
    "DatasetService.GetDataset": Route.FRONT,
    "DatasetService.ListDatasets": Route.FRONT,
    "DatasetService.DeleteDataset": Route.FRONT,
    "DatasetService.DescribeFiles": Route.FRONT,
    "RunService.FeedRun": Route.SESSION,
    "RunService.GetRun": Route.FRONT,
    "RunService.ListRuns": Route.FRONT,
    "RunService.WatchRun": Route.WATCH,
    "RunService.CancelRun": Route.FRONT,
    "RunService.PauseRun": Route.FRONT,
    "RunService.ResumeRun": Route.FRONT,
    "RunService.DeleteRun": Route.FRONT,
    "CheckpointService.CreateCheckpoint": Route.SESSION,
    "CheckpointService.GetCheckpoint": Route.FRONT,
    "CheckpointService.ListCheckpoints": Route.FRONT,
    "CheckpointService.RestoreCheckpoint": Route.FRONT,
    "CheckpointService.DeleteCheckpoint": Route.FRONT,
    "ServerService.GetServerInfo": Route.FRONT,
    "ServerService.GetCatalog": Route.ANY_WORKER,
}
"""The route of each RPC of the contract, by service and method name."""

READS: frozenset[str] = frozenset(
    {
        "SessionService.GetSession",
        "SessionService.ListSessions",
        "SessionService.FetchValues",
        "ModelService.GetModel",
        "ModelService.ListModels",
        "ModelService.FetchTensors",
        "DatasetService.GetDataset",
        "DatasetService.ListDatasets",
        "RunService.GetRun",
        "RunService.ListRuns",
        "RunService.WatchRun",
        "CheckpointService.GetCheckpoint",
        "CheckpointService.ListCheckpoints",
        "ServerService.GetServerInfo",
        "ServerService.GetCatalog",
    }
)
"""The RPCs that change nothing, and that callers may make who only look."""


def changes_something(path: str) -> bool:
    """Whether a method of the contract may change something.

    Args:
        path: ``package.Service/Method``.
    """
    service, _, method = path.partition("/")
    return f"{service.rpartition('.')[2]}.{method}" not in READS


_PACKAGE = SERVICES[0].file.package
_CHANNELZ_PREFIX = "/grpc.channelz."


@cache
def needed_role(path: str) -> Role:
    """Returns the least role that may call a method.

    Args:
        path: As gRPC writes it, ``/package.Service/Method``.
    """
    if path.startswith(_CHANNELZ_PREFIX):
        return Role.ADMIN
    service, _, method = path.removeprefix("/").partition("/")
    package, _, name = service.rpartition(".")
    if package == _PACKAGE and f"{name}.{method}" not in READS:
        return Role.USER
    return Role.READ_ONLY
