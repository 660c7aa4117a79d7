"""``torch.amp``: mixed precision."""

from typing import Any

from gradwire.calls import RemoteObject, invoke
from gradwire.connection import current_session
from gradwire.grad_mode import autocast
from gradwire.objects import restorable
from gradwire.optim.builtin import BuiltinOptimizer
from gradwire.optim.packing import fetch_structure, pack, unpack_pairs
from gradwire.tensors import Tensor

__all__ = ["GradScaler", "autocast"]


@restorable
class GradScaler:
    """Scales losses, so that gradients of low precision do not vanish; a session has it do so.

    Args:
        device: The device type; the session's by default.
        init_scale: The scale to begin with.
        growth_factor: By how much it grows.
        backoff_factor: By how much it shrinks after gradients that are not finite.
        growth_interval: After how many steps it grows.
        enabled: Whether it does anything at all.
    """

    def __init__(
        self,
        device: str | None = None,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        session = current_session()
        own = session.device.partition(":")[0]
        # torch's default is CUDA; where there is none, it warns and does nothing.
        kwargs = {
            "init_scale": init_scale,
            "growth_factor": growth_factor,
            "backoff_factor": backoff_factor,
            "growth_interval": growth_interval,
            "enabled": enabled and (device or "cuda") == own,
        }
        slot = session.record("torch.amp.GradScaler", (own,), kwargs)
        self._remote = RemoteObject(slot)

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the scaler on the server."""
        return self._remote

    def scale(self, outputs: Any) -> Any:
        """Returns a tensor, or tensors in a list or tuple, multiplied by the scale."""
        if isinstance(outputs, list | tuple):
            return type(outputs)(self.scale(output) for output in outputs)
        return self._invoke("scale", "tensor", outputs)

    def unscale_(self, optimizer: BuiltinOptimizer) -> None:
        """Divides the gradients of an optimizer's parameters by the scale."""
        self._invoke("unscale_", "none", _require_builtin(optimizer))

    def step(self, optimizer: BuiltinOptimizer, *args: Any, **kwargs: Any) -> None:
        """Lets an optimizer take a step, unless a gradient is not finite."""
        if args or kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._invoke("step", "none", _require_builtin(optimizer))

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapts the scale, or sets it."""
        self._invoke("update", "none", *(() if new_scale is None else (new_scale,)))

    def get_scale(self) -> float:
        """Returns the scale."""
        return float(self._invoke("get_scale", "value"))

    def get_growth_factor(self) -> float:
        """Returns by how much the scale grows."""
        return float(self._invoke("get_growth_factor", "value"))

    def set_growth_factor(self, new_factor: float) -> None:
        """Sets by how much the scale grows."""
        self._invoke("set_growth_factor", "none", new_factor)

    def get_backoff_factor(self) -> float:
        """Returns by how much the scale shrinks."""
        return float(self._invoke("get_backoff_factor", "value"))

    def set_backoff_factor(self, new_factor: float) -> None:
        """Sets by how much the scale shrinks."""
        self._invoke("set_backoff_factor", "none", new_factor)

    def get_growth_interval(self) -> int:
        """Returns after how many steps the scale grows."""
        return int(self._invoke("get_growth_interval", "value"))

    def set_growth_interval(self, new_interval: int) -> None:
        """Sets after how many steps the scale grows."""
        self._invoke("set_growth_interval", "none", new_interval)

    def is_enabled(self) -> bool:
        """Returns whether the scaler does anything at all."""
        return bool(self._invoke("is_enabled", "value"))

    def state_dict(self) -> dict[str, Any]:
        """Returns the scale and how it is adapted; empty if the scaler does nothing."""
        slot = self._remote._slot.session.record("gradwire.state", (self._remote,), {})
        state: dict[str, Any] = unpack_pairs(fetch_structure(RemoteObject(slot)))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state of a scaler."""
        args = (self._remote, pack(state_dict))
        self._remote._slot.session.record("gradwire.load_state", args, {}, wanted=False)

    def _invoke(self, method: str, returns: str, *args: Any) -> Any:
        session = self._remote._slot.session
        name = f"torch.amp.GradScaler.{method}"
        return invoke(session, name, returns, (self._remote, *args), {})


def _require_builtin(optimizer: Any) -> BuiltinOptimizer:
    if not isinstance(optimizer, BuiltinOptimizer):
        raise TypeError(
            f"GradScaler needs an optimizer of torch; the step of a {type(optimizer).__name__} "
            "runs in your program"
        )
    return optimizer


def is_autocast_available(device_type: str) -> bool:
    """Returns whether the session's worker has a lower precision for a device type."""
    return device_type in ("cpu", current_session().device.partition(":")[0])
