"""The exponential moving average of a model's weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gradwire.v1 import runs_pb2
from gradwire_server.engine.memory import held_bytes
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import invalid


@register
class MovingAverage:
    """``AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))``.

    Args:
        module: The model that is averaged; a copy of it is made.
        decay: The share of the old average.
        kept_handles: The handles of averaged tensors in checkpoints, by name.

    Attributes:
        averaged: The copy, with averaged weights.
    """

    def __init__(
        self, module: torch.nn.Module, decay: float, kept_handles: Mapping[str, int]
    ) -> None:
        self._decay = decay
        self._kept_handles = dict(kept_handles)
        self._model = AveragedModel(
            module,
            multi_avg_fn=get_ema_multi_avg_fn(decay),
        )

    @property
    def averaged(self) -> torch.nn.Module:
        """The copy, with averaged weights."""
        return self._model.module

    def kept(self) -> dict[int, torch.Tensor]:
        """Returns the averaged tensors by the handles that checkpoints have them under."""
        tensors = self.averaged.state_dict()
        return {handle: tensors[name] for name, handle in self._kept_handles.items()}

    def update(self, module: torch.nn.Module) -> None:
        """Takes the present weights in."""
        self._model.update_parameters(module)

    def __getstate__(self) -> dict[str, Any]:
        # The function that averages is made by torch's factory, and made again.
        return {
            "decay": self._decay,
            "kept_handles": self._kept_handles,
            "averaged": self.averaged,
            "num_averaged": self._model.n_averaged,
        }

    @staticmethod
    def rebuild_state(state: dict[str, Any], _: Any) -> "MovingAverage":
        """Returns the average of a snapshot."""
        average = MovingAverage(state["averaged"], state["decay"], state["kept_handles"])
        average._model.n_averaged.copy_(state["num_averaged"])
        return average


def build_average(
    session: Session, request: runs_pb2.TrainRequest, module: torch.nn.Module
) -> MovingAverage | None:
    """Returns the average that a request asks for, if it asks for one."""
    if not request.HasField("moving_average"):
        return None
    decay = request.moving_average.decay
    if not 0 <= decay < 1:
        raise invalid("moving_average.decay", f"{decay} is not at least 0 and less than 1")
    session.budget.reserve(held_bytes([module]), "Train")
    handles = request.moving_average.kept_handles
    unknown = sorted(handles.keys() - module.state_dict().keys())
    if unknown:
        raise invalid(
            "moving_average.kept_handles", f"{unknown[0]!r} is no parameter or buffer of the model"
        )
    return MovingAverage(module, decay, handles)
