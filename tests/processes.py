"""A real server: a process of its own, as a user would start it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc

from gradwire.transport.tls import Tls, target_of
from gradwire.v1 import (
    checkpoints_pb2_grpc,
    datasets_pb2_grpc,
    models_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    sessions_pb2_grpc,
)

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0


class ServerProcess:
    """A server that runs until the block ends.

    Args:
        folder: Where its socket and its log go.
        tls: How to reach it, if it wants TLS.
        options: Settings by name, such as ``workers=2``.
        address: Where it listens; a unix socket in the folder by default.

    Attributes:
        address: Where it listens.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str | None = None,
        tls: Tls | None = None,
        **options: Any,
    ) -> None:
        self.address = address or f"unix:{folder / 'server.sock'}"
        self.tls = tls
        self._log_path = folder / "server.log"
        settings = {
            "device": "cpu",
            "address": self.address,
            "storage": folder / "storage",
            **options,
        }
        arguments = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in settings.items()
        ]
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gradwire_server", "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("GRADWIRE_")},
            )

    def __enter__(self) -> Self:
        # A connection of its own: one that is shared with the channels of an earlier server at this
        # address would share their waiting, too.
        options = [("grpc.use_local_subchannel_pool", 1)]
        target = target_of(self.address)
        with (
            grpc.insecure_channel(target, options=options)
            if self.tls is None
            else grpc.secure_channel(target, self.tls.credentials(), options=options)
        ) as channel:
            try:
                grpc.channel_ready_future(channel).result(START_TIMEOUT_SECONDS)
            except grpc.FutureTimeoutError:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.log()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        """Returns what the server has logged."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Tells the server to stop, and waits until it has; returns its exit status."""
        if self.process.poll() is not None:
            return self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop:\n{self.log()}") from None

    def kill(self) -> None:
        """Ends the server without warning."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """Returns a port of this host that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stubs:
    """Plain stubs on one channel, as a program without the SDK uses them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.sessions: Any = sessions_pb2_grpc.SessionServiceStub(channel)
        self.models: Any = models_pb2_grpc.ModelServiceStub(channel)
        self.runs: Any = runs_pb2_grpc.RunServiceStub(channel)
        self.checkpoints: Any = checkpoints_pb2_grpc.CheckpointServiceStub(channel)
        self.datasets: Any = datasets_pb2_grpc.DatasetServiceStub(channel)
        self.server: Any = server_pb2_grpc.ServerServiceStub(channel)

    def watch(self, run: str) -> Iterator[runs_pb2.RunEvent]:
        """Yields the events of a run, from the first on, until it has ended."""
        for response in self.runs.WatchRun(runs_pb2.WatchRunRequest(name=run)):
            yield response.event

    def workers(self) -> list[server_pb2.Worker]:
        """Returns the workers of the server."""
        info = self.server.GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=10)
        return list(info.workers)
