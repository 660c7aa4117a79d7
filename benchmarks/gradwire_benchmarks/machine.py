"""What the figures were measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gradwire.v1 import server_pb2

PACKAGES = ("gradwire", "torch", "grpcio", "protobuf", "numpy", "ray")


def describe() -> dict[str, str]:
    """Returns time, hardware, load and versions, for people."""
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return {
        "time": datetime.now(UTC).isoformat(sep=" ", timespec="minutes"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.platform(terse=True),
        "versions": ", ".join(versions),
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def describe_worker(worker: server_pb2.Worker) -> str:
    """Returns what computes, for people."""
    return f"{worker.device} ({worker.device_name}), {worker.num_threads} threads"


def _processor() -> str:
    """Returns the model name; /proc/cpuinfo is where Linux has it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
