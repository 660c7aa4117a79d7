"""``torch.optim`` on the server."""

from typing import Any

from gradwire.optim import lr_scheduler as lr_scheduler
from gradwire.optim import swa_utils as swa_utils
from gradwire.optim.builtin import BuiltinOptimizer
from gradwire.optim.optimizer import Optimizer as Optimizer
from gradwire.v1.catalog import OPTIMIZERS

__all__ = [  # noqa: PLE0604
    "Optimizer",
    "lr_scheduler",
    "swa_utils",
    *(name.removeprefix("torch.optim.") for name in OPTIMIZERS),
]


def __getattr__(name: str) -> Any:
    full = f"torch.optim.{name}"
    if full not in OPTIMIZERS:
        raise AttributeError(f"module 'gradwire.optim' has no attribute {name!r}")
    made = type(
        name,
        (BuiltinOptimizer,),
        {
            "_catalog_name": full,
            "__module__": "gradwire.optim",
            "__doc__": f"``{full}`` on the server; see torch's documentation of it.",
        },
    )
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
