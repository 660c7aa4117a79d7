"""The members of the package, each of which is loaded or made when it is first used."""

import importlib
import sys
from typing import Any

SUBMODULES = (
    "amp",
    "autograd",
    "backends",
    "checkpoints",
    "cpu",
    "cuda",
    "datasets",
    "errors",
    "fft",
    "linalg",
    "loggers",
    "masked",
    "nn",
    "ops",
    "optim",
    "random",
    "runs",
    "signal",
    "sparse",
    "special",
    "transforms",
    "utils",
    "v1",
)
LAZY = {
    "Generator": "random",
    "GradScaler": "amp",
    "GradwireError": "errors",
    "Session": "session",
    "Size": "types",
    "Tensor": "legacy",
    "are_deterministic_algorithms_enabled": "settings",
    "as_tensor": "creation",
    "asarray": "creation",
    "autocast": "grad_mode",
    "compile": "settings",
    "connect": "connection",
    "current_session": "connection",
    "default_generator": "random",
    "device": "types",
    "dtype": "types",
    "enable_grad": "grad_mode",
    "finfo": "type_info",
    "from_numpy": "creation",
    "from_torch": "exported",
    "get_default_device": "settings",
    "get_default_dtype": "settings",
    "get_float32_matmul_precision": "settings",
    "get_num_threads": "settings",
    "get_rng_state": "random",
    "iinfo": "type_info",
    "inference_mode": "grad_mode",
    "initial_seed": "random",
    "is_anomaly_enabled": "grad_mode",
    "is_autocast_enabled": "grad_mode",
    "is_grad_enabled": "grad_mode",
    "is_inference_mode_enabled": "grad_mode",
    "is_storage": "settings",
    "is_tensor": "creation",
    "load": "files",
    "manual_seed": "random",
    "no_grad": "grad_mode",
    "restore": "checkpoints",
    "save": "files",
    "seed": "random",
    "set_default_device": "settings",
    "set_default_dtype": "settings",
    "set_default_tensor_type": "legacy",
    "set_float32_matmul_precision": "settings",
    "set_grad_enabled": "grad_mode",
    "set_num_interop_threads": "settings",
    "set_num_threads": "settings",
    "set_printoptions": "settings",
    "set_rng_state": "random",
    "tensor": "creation",
    "to_torch": "exported",
    "train": "training",
    "typename": "types",
    "use_deterministic_algorithms": "settings",
}
NUMBERS = {
    "e": 2.718281828459045,
    "inf": float("inf"),
    "nan": float("nan"),
    "newaxis": None,
    "pi": 3.141592653589793,
}


def find(name: str) -> Any:
    """Returns a member of the package.

    Raises:
        AttributeError: There is none of that name; the message has the closest ones.
    """
    if name in SUBMODULES:
        return importlib.import_module(f"gradwire.{name}")
    if name in LAZY:
        return getattr(importlib.import_module(f"gradwire.{LAZY[name]}"), name)
    if name in NUMBERS:
        return NUMBERS[name]
    types = importlib.import_module("gradwire.types")
    if name in types.DTYPES or name in types.DTYPE_ALIASES:
        return types.DTYPES[types.DTYPE_ALIASES.get(name, name)]
    if name in types.CONSTANTS:
        return types.CONSTANTS[name]
    if name.endswith("Tensor"):
        legacy = importlib.import_module("gradwire.legacy")
        if name in legacy.TENSOR_TYPES:
            return legacy.TENSOR_TYPES[name]
    namespace = importlib.import_module("gradwire.namespace")
    if name in namespace.public_names("torch"):
        getattribute, _ = namespace.catalog_getattr("torch", {})
        return getattribute(name)
    closest = importlib.import_module("gradwire.closest")
    raise closest.missing_attribute(
        "module 'gradwire'", name, names(), sys.modules["gradwire"], prefix="torch"
    )


def names() -> list[str]:
    """Returns the names of all members."""
    namespace = importlib.import_module("gradwire.namespace")
    types = importlib.import_module("gradwire.types")
    return sorted(
        {
            *SUBMODULES,
            *LAZY,
            *NUMBERS,
            *types.DTYPES,
            *types.DTYPE_ALIASES,
            *types.CONSTANTS,
            *namespace.public_names("torch"),
        }
    )
