"""Servers of the benchmarks' own, as `gradwire serve` runs them."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from grpc_health.v1 import health_pb2, health_pb2_grpc

from gradwire.transport.channel import open_channel
from gradwire.v1 import server_pb2, server_pb2_grpc

READY_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0


class BenchServer:
    """A server that runs until the block ends, or this process does.

    Args:
        settings: Its settings by name, such as ``max_sessions=2000``; by default it listens on a
            unix socket.

    Attributes:
        address: Where it listens.
        info: What it says of itself.
    """

    def __init__(self, **settings: object) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gradwire-bench-")
        given = {
            "address": f"unix:{self._folder.name}/server.sock",
            "storage": self._folder.name,
            # It has nothing to leave behind.
            "parked_session_ttl_seconds": 0,
            "log_level": "error",
            **settings,
        }
        self.address = str(given["address"])
        variables = {f"GRADWIRE_{name.upper()}": str(value) for name, value in given.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gradwire_server", "serve", "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **variables},
        )
        self.info = server_pb2.GetServerInfoResponse()

    @property
    def worker(self) -> server_pb2.Worker:
        """Its first worker."""
        return self.info.workers[0]

    def cpu_seconds(self) -> float:
        """Returns the processor time of the front and the workers, from the kernel."""
        pids = [self._process.pid, *(worker.pid for worker in self.info.workers)]
        threads = [path for pid in pids for path in Path(f"/proc/{pid}/task").iterdir()]
        # Its first number is the nanoseconds that a thread has run.
        texts = ((path / "schedstat").read_text(encoding="ascii") for path in threads)
        return sum(int(text.split()[0]) for text in texts) / 1e9

    def __enter__(self) -> Self:
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        """Waits until it has a worker."""
        with open_channel(self.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            states = health.Watch(
                health_pb2.HealthCheckRequest(),
                wait_for_ready=True,
                timeout=READY_TIMEOUT_SECONDS,
            )
            for state in states:
                if state.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            states.cancel()
            stub: Any = server_pb2_grpc.ServerServiceStub(channel)
            self.info = stub.GetServerInfo(server_pb2.GetServerInfoRequest())

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def forget_servers() -> None:
    """Forgets what the environment says of servers: neither those here nor clients are meant."""
    for name in [name for name in os.environ if name.startswith("GRADWIRE_")]:
        del os.environ[name]


def free_address() -> str:
    """Returns an address of this host, with a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
