"""``torch.cuda.amp``: mixed precision by its old names."""

from typing import Any

from gradwire import amp
from gradwire.types import DTYPES

__all__ = ["GradScaler", "autocast"]


class GradScaler(amp.GradScaler):
    """Scales losses on a CUDA device; does nothing where the session has none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("cuda", *args, **kwargs)


class autocast(amp.autocast):  # noqa: N801  # torch's name
    """In this context operations on a CUDA device run in lower precision where that is safe."""

    def __init__(
        self, enabled: bool = True, dtype: Any = DTYPES["float16"], cache_enabled: bool = True
    ) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)
