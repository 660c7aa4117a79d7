"""A server in the running event loop whose workers are fakes, and a client of it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gradwire.v1 import (
    checkpoints_pb2_grpc,
    datasets_pb2_grpc,
    models_pb2_grpc,
    runs_pb2_grpc,
    server_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from gradwire_server.config import load_settings
from gradwire_server.server import Server
from gradwire_server.transport.options import CLIENT_OPTIONS

FAKE_WORKER = (sys.executable, str(Path(__file__).parent / "worker.py"))
TIMEOUT_SECONDS = 10.0

M = TypeVar("M", bound=Message)


class Client:
    """Plain stubs on one channel."""

    def __init__(self, channel: "grpc.aio.Channel") -> None:
        self.channel: Any = channel
        self.sessions: Any = sessions_pb2_grpc.SessionServiceStub(channel)
        self.models: Any = models_pb2_grpc.ModelServiceStub(channel)
        self.runs: Any = runs_pb2_grpc.RunServiceStub(channel)
        self.checkpoints: Any = checkpoints_pb2_grpc.CheckpointServiceStub(channel)
        self.datasets: Any = datasets_pb2_grpc.DatasetServiceStub(channel)
        self.server: Any = server_pb2_grpc.ServerServiceStub(channel)

    async def session(self, **fields: Any) -> str:
        """Returns the name of a new session."""
        request = sessions_pb2.CreateSessionRequest(**fields)
        response = await self.sessions.CreateSession(request, timeout=TIMEOUT_SECONDS)
        return str(response.session.name)


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[tuple[Server, Client]]:
    """Runs a server on a unix socket in `folder`."""
    loaded = load_settings(
        **{
            "address": f"unix:{folder / 'socket'}",
            "device": "cpu",
            "storage": str(folder / "storage"),
            **settings,
        }
    )
    server = Server(loaded, worker_command=FAKE_WORKER)
    await server.start()
    async with grpc.aio.insecure_channel(str(server.address), options=CLIENT_OPTIONS) as channel:
        yield server, Client(channel)
    if not server.stopped:
        await server.stop(0)


def status_of(error: "grpc.aio.AioRpcError") -> status_pb2.Status:
    """Returns the status with details that an error carries."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return status


def info_of(error: "grpc.aio.AioRpcError") -> error_details_pb2.ErrorInfo:
    """Returns the ErrorInfo that an error carries."""
    found = details_of(error, error_details_pb2.ErrorInfo)
    assert found.domain == "gradwire"
    return found


def details_of(error: "grpc.aio.AioRpcError", kind: type[M]) -> M:
    """Returns the detail of one type that an error carries."""
    for detail in status_of(error).details:
        message = kind()
        if detail.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {error}")
