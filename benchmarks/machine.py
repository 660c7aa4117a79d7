"""What the figures were measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from gradwire.v1 import server_pb2


def describe(server: server_pb2.GetServerInfoResponse) -> dict[str, str]:
    """Returns hardware and versions, for people."""
    (worker, *_) = server.workers
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "device": f"{worker.device}, {worker.num_threads} threads",
        "system": platform.platform(terse=True),
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                f"torch {server.torch_version}",
                *(
                    f"{package} {version(package)}"
                    for package in ("grpcio", "protobuf", "gradwire")
                ),
            ]
        ),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    """Returns the model name; /proc/cpuinfo is where Linux has it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
