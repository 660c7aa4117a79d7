"""Programs that take a training step, with the step compiled when it came often enough."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from gradwire_server.engine import hot
from gradwire_server.engine.compiling.graph import UnrecordableError
from gradwire_server.engine.compiling.step import Backend, Step
from gradwire_server.engine.compiling.watched import Watched
from gradwire_server.engine.programs import STEP_OPERATIONS, Program


class ProgramSteps:
    """Runs the programs of a session, and compiles those parts of them that are training steps.

    Args:
        backend: What makes steps fast.
        device: Where the session lives.
        counts: Counts what becomes of steps, by outcome.
    """

    def __init__(self, backend: Backend, device: torch.device, counts: "Counter[str]") -> None:
        self._backend = backend
        self._device = device
        self._counts = counts

    def run(
        self, program: Program, inputs: Sequence[Any], wanted: tuple[int, ...], version: int
    ) -> list[Any]:
        """Runs a program, as `Program.run`.

        Args:
            program: The program.
            inputs: Its inputs.
            wanted: Which results are wanted.
            version: As for `Step.take`.
        """
        if not program.num_steps:
            return program.run(inputs, wanted)
        part: _StepPart | None = program.prepared.get(wanted)
        if part is None:
            if len(program.prepared) >= MAX_PREPARED:
                program.prepared.clear()
            part = program.prepared[wanted] = _StepPart(program, wanted)
        step = part.step_for(inputs, self)
        if step is None:
            return program.run(inputs, wanted)
        return part.run(step, inputs, version)

    def step(self, values: Sequence[Any], part: "_StepPart") -> Step:
        """Returns a step that works on the modules and optimizers among some values."""
        tensors = [
            value
            for value in values
            if isinstance(value, torch.Tensor) and (value.requires_grad and value.is_leaf)
        ]
        watched = Watched(
            [value for value in values if isinstance(value, torch.nn.Module)],
            [value for value in values if isinstance(value, torch.optim.Optimizer)],
            tensors,
            on_gone=part.forget,
        )
        return Step(watched, self._backend, self._device, self._counts, what="program")


MAX_PREPARED = 8
"""For how many sets of wanted results a program has its step prepared."""


class _StepPart:
    """A program's operations up to its last optimizer step, and those after it."""

    def __init__(self, program: Program, wanted: tuple[int, ...]) -> None:
        self._program = program
        self._wanted = wanted
        self._step: Step | None = None
        self._objects: tuple[int, ...] = ()
        code = program.code(wanted)
        names = program.names
        last = max(
            (i for i, name in enumerate(names) if name == "torch.optim.Optimizer.step"), default=-1
        )
        self._before, self._after = code[: last + 1], code[last + 1 :]
        self._backwards = {i for i, name in enumerate(names) if name == "torch.Tensor.backward"}
        dead = {register for _, _, _, registers in self._before for register in registers}
        self._live = [target for target, _, _, _ in self._before if target not in dead]
        self._possible = last >= 0 and all(
            name in STEP_OPERATIONS or name == "" for name in names[: last + 1]
        )

    def step_for(self, inputs: Sequence[Any], steps: ProgramSteps) -> Step | None:
        """Returns the step for modules and optimizers among the inputs; None if there is none."""
        if not self._possible:
            return None
        objects = tuple([id(v) for v in inputs if not isinstance(v, torch.Tensor)])
        if self._step is None or objects != self._objects:
            values = [*inputs, *self._program.constants]
            for value in list(values):
                if isinstance(value, Program):
                    values += value.constants
            self._step, self._objects = steps.step(values, self), objects
        return self._step

    def forget(self) -> None:
        """Forgets what was compiled: what it worked on is gone."""
        if self._step is not None:
            self._step.clear()
            self._step = None

    def run(self, step: Step, inputs: Sequence[Any], version: int) -> list[Any]:
        """Runs the program."""
        program, wanted = self._program, self._wanted
        registers = program.registers(inputs)
        results = step.take(inputs, version, lambda: self._take(program.registers(inputs)))
        if results is None:
            program.execute(self._before, registers, wanted)
        else:
            for target, result in zip(self._live, results, strict=True):
                registers[target] = result
        program.execute(self._after, registers, wanted)
        return program.results(registers, wanted)

    def _take(self, registers: list[Any]) -> list[Any]:
        """Takes the step with torch; returns what is used after it.

        Raises:
            UnrecordableError: Autograd could still go through some of that.
        """
        used: set[Any] = set()
        for index, (target, call, arguments, dead) in enumerate(self._before):
            given = arguments(registers)
            if index in self._backwards:
                if call is not hot.backward or len(given) != 1:
                    raise UnrecordableError("its backward is given more than a loss")
                _collect(given[0].grad_fn, used)
            registers[target] = call(*given)
            for register in dead:
                registers[register] = None
        results = [registers[target] for target in self._live]
        for result in results:
            if isinstance(result, torch.Tensor) and result.grad_fn not in {None, *used}:
                raise UnrecordableError("its graph is used after it, for another backward")
        return results


def _collect(node: Any, found: set[Any]) -> None:
    """Adds a node of the autograd graph and all that lead to it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [following for following, _ in node.next_functions]
