"""How the device of a worker is doing."""

import resource
from pathlib import Path
from typing import Any

import structlog
import torch

log = structlog.get_logger(__name__)

_STATM = Path("/proc/self/statm")


def device_figures(device: torch.device) -> dict[str, Any]:
    """Returns memory and use of the process and of its GPU, as far as they can be told.

    Returns:
        ``process_bytes``, ``cpu_seconds``; with a GPU also ``memory_used_bytes``,
        ``memory_total_bytes``, ``allocated_bytes``, and ``utilization`` from 0 to 1.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures: dict[str, Any] = {
        "process_bytes": _resident_bytes(),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        figures |= {
            "memory_used_bytes": total - free,
            "memory_total_bytes": total,
            "allocated_bytes": torch.cuda.memory_allocated(device),
        }
        try:
            figures["utilization"] = torch.cuda.utilization(device) / 100
        except Exception as error:  # noqa: BLE001  # whatever the driver raises
            # The driver's library may be missing, or not allowed to say.
            log.debug("GPU utilization is not told", error=str(error))
    return figures


def _resident_bytes() -> int:
    """Returns how much memory the process has; 0 where only Linux would know."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
