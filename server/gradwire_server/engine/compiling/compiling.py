"""What a worker compiles steps with."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradwire_server.engine.compiling.programs import Maker, ProgramSteps
from gradwire_server.engine.compiling.step import Backend, Step
from gradwire_server.engine.compiling.watched import Watched


class Compiling:
    """What a worker compiles steps with.

    Args:
        backend: What makes steps fast.
        counts: Counts what becomes of steps, by outcome.
        otherwise: What takes the steps of programs that this does not take, if not torch.
    """

    def __init__(
        self, backend: Backend, counts: "Counter[str]", *, otherwise: "Compiling | None" = None
    ) -> None:
        self._backend = backend
        self._counts = counts
        self._makers: list[Maker] = [
            Maker(backend, counts),
            *(otherwise._makers if otherwise else ()),
        ]

    def programs(
        self, device: torch.device, close_contexts: Callable[[], None]
    ) -> Callable[..., list[Any]]:
        """Returns what runs the programs of a session; see `ProgramSteps`."""
        return ProgramSteps(self._makers, device, close_contexts).run

    def loop(
        self,
        modules: Sequence[torch.nn.Module],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *,
        num_steps: int,
    ) -> Step:
        """Returns the step of a training loop.

        One that is exact ends with its gradients; any other says itself whether it is to be taken.

        Args:
            modules: What is called, the loss included.
            optimizer: What steps.
            device: Where it runs.
            num_steps: How many steps it will take; 0 if nobody knows.
        """
        exact = self._backend.exact
        watched = Watched(
            modules,
            [optimizer],
            steps=not exact,
            on_gone=lambda: step.clear(),  # noqa: PLW0108
        )
        step = Step(
            watched,
            self._backend,
            device,
            self._counts,
            what="Train",
            guarded=not exact,
            keeps_gradients=exact,
            num_steps=num_steps,
        )
        return step
