"""torch's own tolerances, as the entries of its tables override them."""

from typing import Any

import torch
from torch.testing._internal.common_device_type import precisionOverride, toleranceOverride
from torch.testing._internal.opinfo.core import DecorateInfo

from tests.conformance.comparing import Tolerance


def tolerance_of(info: Any, dtype: torch.dtype) -> Tolerance:
    """Returns the widest tolerance that an entry's decorators give a dtype."""
    rtol: float | None = None
    atol: float | None = None
    for decorator in info.decorators:
        inner = decorator.decorators if isinstance(decorator, DecorateInfo) else [decorator]
        for override in inner:
            if isinstance(override, toleranceOverride) and dtype in override.d:
                given = override.d[dtype]
                rtol, atol = max(rtol or 0.0, given.rtol), max(atol or 0.0, given.atol)
            elif isinstance(override, precisionOverride) and dtype in override.d:
                rtol, atol = rtol or 0.0, max(atol or 0.0, override.d[dtype])
    return Tolerance(rtol=rtol, atol=atol)
