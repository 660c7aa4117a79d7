"""The state of torch's random number generators, as one value."""

from dataclasses import dataclass
from typing import Any

import torch

from gradwire_server.engine.snapshot import register


# No slots: in Python 3.11.2, a frozen dataclass with slots gets another `__getstate__` than this.
@register
@dataclass(frozen=True, kw_only=True)
class RandomState:
    """The state of torch's generators."""

    cpu: torch.Tensor
    device: torch.Tensor | None

    def __getstate__(self) -> dict[str, Any]:
        return {"cpu": self.cpu, "device": self.device}

    @staticmethod
    def rebuild_state(state: dict[str, Any], _: Any) -> "RandomState":
        """Returns the random state of a snapshot; generators take their state on the CPU."""
        on_device = state["device"]
        return RandomState(
            cpu=state["cpu"].cpu(), device=None if on_device is None else on_device.cpu()
        )

    @classmethod
    def capture(cls, device: torch.device) -> "RandomState":
        """Returns the present state of the generators."""
        on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(cpu=torch.get_rng_state(), device=on_device)

    def restore(self, device: torch.device) -> None:
        """Puts the generators into this state."""
        torch.set_rng_state(self.cpu)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device, device)
