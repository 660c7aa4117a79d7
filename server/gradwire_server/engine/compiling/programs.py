"""Programs that take a training step, with the step compiled when it came often enough."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from gradwire_server.engine import hot
from gradwire_server.engine.compiling.graph import UnrecordableError
from gradwire_server.engine.compiling.step import Backend, Step
from gradwire_server.engine.compiling.watched import Watched
from gradwire_server.engine.effects import STEP_OPERATIONS
from gradwire_server.engine.programs import OperationError, Program
from gradwire_server.engine.spent import Spent

VALUE_OPERATIONS = frozenset({"torch.Tensor.item", "torch.Tensor.detach"})
"""The operations that do the same whether or not a tensor has a graph."""
MAX_PREPARED = 8
"""For how many sets of wanted results a program has its step prepared."""


class Maker(NamedTuple):
    """What makes steps fast, and counts what becomes of them, by outcome."""

    backend: Backend
    counts: "Counter[str]"


class ProgramSteps:
    """Runs the programs of a session, and makes those parts of them fast that are training steps.

    Args:
        makers: What makes steps fast. A step that the first does not take, is for the next.
        device: Where the session lives.
        close_contexts: Leaves the contexts that a program has entered.
    """

    def __init__(
        self,
        makers: Sequence[Maker],
        device: torch.device,
        close_contexts: Callable[[], None],
    ) -> None:
        self._makers = makers
        self._device = device
        self.close_contexts = close_contexts

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
        if not program.num_backwards:
            return program.run(inputs, wanted)
        parts: list[_StepPart] | None = program.prepared.get(wanted)
        if parts is None:
            if len(program.prepared) >= MAX_PREPARED:
                program.prepared.clear()
            found = [_StepPart(program, wanted, self, maker) for maker in self._makers]
            parts = program.prepared[wanted] = [part for part in found if part.is_possible]
        if not parts:
            return program.run(inputs, wanted)
        return parts[0].run(inputs, version, *parts[1:])

    def step(
        self,
        maker: Maker,
        given: Sequence[Any],
        constants: Sequence[Any],
        on_gone: Callable[[], None],
    ) -> Step:
        """Returns a step that works on the modules and optimizers among some values.

        Args:
            maker: What makes it fast.
            given: What may be something else the next time.
            constants: What is always the same.
            on_gone: Called when nobody else holds one of them any more.
        """
        values = [*given, *constants]
        tensors = [
            *(v for v in given if isinstance(v, torch.Tensor) and v.requires_grad and v.is_leaf),
            *(v for v in constants if isinstance(v, torch.Tensor)),
        ]
        watched = Watched(
            [value for value in values if isinstance(value, torch.nn.Module)],
            [value for value in values if isinstance(value, torch.optim.Optimizer)],
            tensors,
            steps=not maker.backend.exact,
            on_gone=on_gone,
        )
        return Step(watched, maker.backend, self._device, maker.counts, what="program")


class _StepPart:
    """The operations of a program that are a training step, and those before and after it.

    The step ends with the last step of an optimizer, and begins after whatever changes more than
    tensors before that, such as a scheduler. If it is to be exact, it ends before, with the last
    backward, as optimizers compute with numbers that are others in each step.

    Attributes:
        is_possible: Whether there is such a part.
    """

    def __init__(
        self, program: Program, wanted: tuple[int, ...], steps: ProgramSteps, maker: Maker
    ) -> None:
        self._program = program
        self._wanted = wanted
        self._steps = steps
        self._maker = maker
        self._step: Step | None = None
        self._objects: tuple[int, ...] = ()
        code, names = program.code(wanted), program.names
        exact = maker.backend.exact
        last = _BACKWARD if exact else _STEP
        end = 1 + max((i for i, name in enumerate(names) if name == last), default=-1)
        allowed = STEP_OPERATIONS - {_STEP} if exact else STEP_OPERATIONS
        others = [i for i, name in enumerate(names[:end]) if name and name not in allowed]
        begin = 1 + max(others, default=-1)
        self._before, self._part, self._after = code[:begin], code[begin:end], code[end:]
        names = names[begin:end]
        self._backwards = {i for i, name in enumerate(names) if name == _BACKWARD}
        targets = {target for target, _, _, _ in self._part}
        losses = {r for i in self._backwards for r in program.reads(begin + i, begin + i + 1)}
        self.is_possible = bool(losses) and losses <= targets and _is_balanced(names)
        dead = {register for _, _, _, registers in self._part for register in registers}
        self._live = [target for target, _, _, _ in self._part if target not in dead]
        given = {*range(program.num_inputs), *(target for target, _, _, _ in self._before)}
        looked_at = [
            i for i, n in enumerate(program.names) if i >= end and n not in VALUE_OPERATIONS
        ]
        self._looked_at = {r for i in looked_at for r in program.reads(i, i + 1)}
        self._reads = sorted(program.reads(begin, end) & given - targets)

    def run(self, inputs: Sequence[Any], version: int, *others: "_StepPart") -> list[Any]:
        """Runs the program; the step by one of `others` if it is not taken here."""
        program, wanted = self._program, self._wanted
        registers = program.registers(inputs)
        program.execute(self._before, registers, wanted)
        given = [registers[index] for index in self._reads]
        results = None
        if not torch.is_anomaly_enabled():
            step = self._step_for(given)
            results = step.take(given, version, lambda: self._take(registers.copy()))
        if results is None and others and not self._before:
            return others[0].run(inputs, version, *others[1:])
        if results is None:
            program.execute(self._part, registers, wanted)
            program.execute(self._after, registers, wanted)
            return program.results(registers, wanted)
        spent: dict[int, Spent] = {}
        for target, result in zip(self._live, results, strict=True):
            if type(result) is not Spent:
                registers[target] = result
            elif target in self._looked_at:
                registers[target] = result.tensor()
            else:
                registers[target] = result.elements
                spent[target] = result
        try:
            program.execute(self._after, registers, wanted)
        except OperationError as failure:
            for index in failure.results:
                target = program.target(index)
                failure.results[index] = spent.get(target, registers[target])
            raise
        return program.results(registers, wanted, spent)

    def _step_for(self, given: Sequence[Any]) -> Step:
        """Returns the step for the modules and optimizers among some values."""
        objects = tuple([id(value) for value in given if not isinstance(value, torch.Tensor)])
        if self._step is None or objects != self._objects:
            constants = self._program.constants
            for value in [each for each in (*given, *constants) if isinstance(each, Program)]:
                constants += value.constants
            self._step = self._steps.step(self._maker, given, constants, self._forget)
            self._objects = objects
        return self._step

    def _forget(self) -> None:
        """Forgets what was compiled: what it worked on is gone."""
        if self._step is not None:
            self._step.clear()
            self._step = None

    def _take(self, registers: list[Any]) -> list[Any]:
        """Takes the step with torch; returns what is used after it.

        Raises:
            UnrecordableError: Autograd goes beyond the step, or could do so later.
        """
        # Nodes are numbered as they are made; those of leaves come after all others.
        first_of_step = torch._C._autograd._get_sequence_nr()
        used: set[Any] = set()
        try:
            for index, (target, call, arguments, dead) in enumerate(self._part):
                given = arguments(registers)
                if index in self._backwards:
                    if call is not hot.backward or len(given) != 1:
                        raise UnrecordableError("its backward is given more than a loss")
                    _collect(given[0].grad_fn, used)
                    if any(node._sequence_nr() < first_of_step for node in used):
                        raise UnrecordableError(
                            "its backward goes on into what was computed before"
                        )
                registers[target] = call(*given)
                for register in dead:
                    registers[register] = None
        except BaseException:
            self._steps.close_contexts()
            raise
        results = [registers[target] for target in self._live]
        for result in results:
            if not isinstance(result, torch.Tensor) or result.grad_fn is None:
                continue
            if result.grad_fn not in used:
                raise UnrecordableError("its graph is used after it, for another backward")
            if result.retains_grad:
                raise UnrecordableError("a result of it keeps its gradient")
        return results


_BACKWARD, _STEP = "torch.Tensor.backward", "torch.optim.Optimizer.step"


def _is_balanced(names: Sequence[str]) -> bool:
    """Returns whether all contexts that are entered are left, and no others."""
    depth = 0
    for name in names:
        depth += (name == "gradwire.enter") - (name == "gradwire.exit")
        if depth < 0:
            return False
    return depth == 0


def _collect(node: Any, found: set[Any]) -> None:
    """Adds a node of the autograd graph and all that lead to it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [following for following, _ in node.next_functions]
