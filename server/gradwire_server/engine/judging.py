"""What a run makes of its evaluations: which is the best, and when to end."""

import torch

from gradwire_server.engine.recipe import Recipe, Watched
from gradwire_server.engine.snapshot import register


@register
class Judge:
    """Compares the values that a recipe watches with those of before.

    Args:
        recipe: The recipe.

    Attributes:
        best_state: Weights and buffers of the best evaluation, if the run is to end with them.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._best_score: float | None = None
        self._num_worse = 0
        self._best_checkpoint: float | None = None
        self.best_state: dict[str, torch.Tensor] | None = None

    def ends_run(self, watched: Watched, module: torch.nn.Module) -> bool:
        """Returns whether the monitored value has not improved for too long."""
        recipe = self._recipe
        if recipe.stop_monitor is None:
            return False
        score = recipe.stop_monitor.score(watched)
        if self._best_score is None or score > self._best_score + recipe.min_delta:
            self._best_score, self._num_worse = score, 0
            if recipe.restore_best:
                state = module.state_dict()
                self.best_state = {k: v.detach().clone() for k, v in state.items()}
            return False
        self._num_worse += 1
        return self._num_worse >= recipe.patience

    def is_best(self, watched: Watched) -> bool:
        """Returns whether a checkpoint of now would be the best, and takes it for that."""
        monitor = self._recipe.best_monitor
        if monitor is None:
            return False
        score = monitor.score(watched)
        if self._best_checkpoint is not None and score <= self._best_checkpoint:
            return False
        self._best_checkpoint = score
        return True
