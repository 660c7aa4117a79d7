"""Optimizer steps that call back into the client's program, such as those of LBFGS."""

from typing import Any

import torch
from greenlet import getcurrent, greenlet

from gradwire_server.engine.values import class_name


class SteppedOptimizer:
    """One `optimizer.step(closure)` that stops wherever the closure is called.

    The step runs in a greenlet: a second stack in the same thread, so that torch's thread-local
    state and its order of execution are those of an ordinary call.

    Attributes:
        result: What the step returned, once it has ended.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"a {class_name(optimizer)} is not an optimizer")
        self.result: Any = None
        self._greenlet = greenlet(self._run)
        self._optimizer = optimizer

    def advance(self, loss: Any) -> bool:
        """Runs until the closure is called or the step ends.

        Args:
            loss: What the closure returned; ignored the first time.

        Returns:
            True if the closure was called, False if the step has ended.
        """
        mode = torch.is_grad_enabled()
        wanted: bool = self._greenlet.switch(loss)
        torch.set_grad_enabled(mode)
        return wanted

    def _run(self, _: Any) -> bool:
        caller = getcurrent().parent
        assert caller is not None

        def closure() -> Any:
            return caller.switch(True)

        self.result = self._optimizer.step(closure)
        return False
