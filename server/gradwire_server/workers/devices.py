"""Which devices there are, found out without torch in this process."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
_PROBE = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
_PROBE_TIMEOUT_SECONDS = 120.0
_DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


class NoSuchDeviceError(ValueError):
    """A device was asked for that this host does not have."""


def parse_devices(text: str) -> tuple[str, ...]:
    """Returns the devices named in a setting such as ``auto`` or ``cuda:0,cuda:1``.

    Raises:
        ValueError: A part of it is no device, or one is named twice.
    """
    parts = tuple(part.strip() for part in text.split(","))
    if parts == ("auto",):
        return parts
    for part in parts:
        if not _DEVICE.fullmatch(part):
            raise ValueError(f'"{part}" is no device; expected auto, cpu, cuda or cuda:N')
    if len(set(parts)) < len(parts) or ("cuda" in parts and any(":" in part for part in parts)):
        raise ValueError(f'"{text}" names a device twice')
    return parts


async def find_devices(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the devices to start workers on, ``cuda`` and ``auto`` resolved.

    Asks torch, in a process of its own, because only torch knows which of the host's devices it
    can use; does not even start it where there is no driver.

    Raises:
        NoSuchDeviceError: A device that was asked for by name is not there.
    """
    if wanted == ("cpu",):
        return wanted
    count = await _count_cuda_devices() if any(path.exists() for path in _DRIVER_FILES) else 0
    if wanted == ("auto",):
        return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)
    found: list[str] = []
    for device in wanted:
        if device == "cuda" and count:
            found += [f"cuda:{index}" for index in range(count)]
        elif device == "cpu" or (":" in device and int(device.partition(":")[2]) < count):
            found.append(device)
        else:
            raise NoSuchDeviceError(
                f"there is no device {device}: torch sees {count} CUDA devices on this host"
            )
    return tuple(found)


def count_cores() -> int:
    """Returns how many CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


async def _count_cuda_devices() -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROBE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
            output, _ = await process.communicate()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    return int(output) if process.returncode == 0 else 0
