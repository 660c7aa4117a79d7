"""What is to be known of a recorded step to compile it and to call what was compiled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from gradwire_server.engine.compiling.graph import UnrecordableError
from gradwire_server.engine.compiling.recording import Rate, Recording, memory_of
from gradwire_server.engine.compiling.simplifying import simplify
from gradwire_server.engine.spent import Spent, SpentGraph

_CONSTANTS = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.Size)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A step that was recorded.

    Attributes:
        graph_json: What is to be compiled.
        taken: Which of the step's inputs it takes, by index.
        fixed: The tensors that it takes after those, always the same ones.
        mutated: Those of them that it changes.
        rates: The learning rates among them.
        wanted: How to come by each wanted result.
        gradients: The parameters whose gradient it sets, each with the index of an output; None if
            it clears it.
        fresh: Those that must have no gradient before the step: it would be added to.
        ok: The index of the output that says whether it changed anything; None if it always does.
        draws: Whether it draws random numbers.
    """

    graph_json: str
    taken: tuple[int, ...]
    fixed: tuple[torch.Tensor, ...]
    mutated: tuple[torch.Tensor, ...]
    rates: tuple[Rate, ...]
    wanted: "tuple[Result, ...]"
    gradients: tuple[tuple[torch.Tensor, int | None], ...]
    fresh: tuple[torch.Tensor, ...]
    ok: int | None
    draws: bool

    def results(self, inputs: Sequence[Any], outputs: Sequence[torch.Tensor]) -> list[Any]:
        """Returns the wanted results; of tensors whose graph is used up, `Spent` ones."""
        return [
            (outputs[output] if graph is None else Spent(outputs[output], graph))
            if output is not None
            else value
            if taken is None
            else inputs[taken]
            for output, taken, value, graph in self.wanted
        ]


class Result(NamedTuple):
    """How to come by a wanted result.

    Attributes:
        output: The output that it is.
        taken: If it is none, the input of the step that it is.
        value: If it is neither, what it always is.
        graph: The graph of the output, if that is to be known.
    """

    output: int | None = None
    taken: int | None = None
    value: Any = None
    graph: SpentGraph | None = None


class Capturing:
    """Makes a captured step of a recording.

    Args:
        recording: The recording.
        inputs: What the step worked on that is different each time.
        known: The other tensors that it may have worked on.
        rates: The learning rates that it may have worked with.
        exact: Whether it is to be replayed rather than compiled.
    """

    def __init__(
        self,
        recording: Recording,
        inputs: Sequence[Any],
        known: Sequence[torch.Tensor],
        rates: Sequence[Rate],
        *,
        exact: bool,
    ) -> None:
        self._exact = exact
        self._recording = recording
        self._graph = recording.graph
        self._rates = [rate for rate in rates if recording.number(rate.tensor) is not None]
        known_ids = {id(tensor) for tensor in known}
        given = {id(v): i for i, v in enumerate(inputs) if isinstance(v, torch.Tensor)}
        self._taken = {
            number: given[id(tensor)]
            for number, tensor in recording.external.items()
            if id(tensor) in given and id(tensor) not in known_ids
        }
        known_ids |= {id(rate.tensor) for rate in rates}
        self._fixed = {
            number: tensor
            for number, tensor in recording.external.items()
            if number not in self._taken
        }
        self._mutated = recording.mutated
        self._require_only(known_ids)
        self._graph.inputs = {
            number: self._graph.inputs[number] for number in (*self._taken, *self._fixed)
        }

    def capture(
        self,
        wanted: Sequence[Any],
        gradients: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
        *,
        guarded: bool,
    ) -> Captured:
        """Returns the step.

        Args:
            wanted: The wanted results.
            gradients: The parameters whose gradients are wanted, each with its gradient before.
            guarded: Whether the last wanted result says if anything is to be changed.

        Raises:
            UnrecordableError: It does what a compiled step can't.
        """
        changed = [(p, before) for p, before in gradients if self._changed(p, before)]
        leaves = tuple(parameter for parameter, _ in changed if parameter.grad is not None)
        results = tuple(self._result(value, leaves) for value in wanted)
        outputs = [(p, None if p.grad is None else self._output(p.grad)) for p, _ in changed]
        if self._exact:
            # Results that share memory do so again, as the same operations make them.
            simplify(self._recording, self._graph.outputs)
        else:
            self._require_apart()
        ok = self._ok(results[-1] if guarded else None)
        return Captured(
            graph_json=self._graph.to_json(),
            taken=tuple(self._taken.values()),
            fixed=tuple(tensor.detach() for tensor in self._fixed.values()),
            mutated=tuple(self._fixed[number] for number in self._mutated),
            rates=tuple(self._rates),
            wanted=results,
            gradients=tuple(outputs),
            fresh=tuple(p for p, before in changed if before is None and p.grad is not None),
            ok=ok,
            draws=self._recording.draws,
        )

    def _ok(self, guard: Result | None) -> int | None:
        """Lets the step change nothing unless it may; returns the output that says so, if any."""
        recording, parts = self._recording, []
        if guard is not None:
            if guard.output is None:
                raise UnrecordableError("it does not compute whether it is to be taken")
            parts.append(self._graph.outputs[guard.output])
        parts += [
            recording.add("aten.logical_not.default", {"value": bad})
            for bad in recording.out_of_range
        ]
        if not parts:
            return None
        ok = parts[0]
        for part in parts[1:]:
            ok = recording.add("aten.bitwise_and.Tensor", {"value": ok}, {"value": part})
        self._graph.undo_unless(ok, self._mutated, recording.next_value)
        self._graph.outputs.append(ok)
        return len(self._graph.outputs) - 1

    def _require_only(self, known_ids: set[int]) -> None:
        """Raises if it works on tensors that could be others the next time."""
        for number, tensor in self._fixed.items():
            constant = tensor.numel() == 1 and not tensor.requires_grad
            if id(tensor) not in known_ids and (number in self._mutated or not constant):
                raise UnrecordableError(
                    f"it works on a tensor of shape {tuple(tensor.shape)} that is neither an input "
                    "nor part of a model or an optimizer, such as a gradient from before"
                )
        for number in self._mutated:
            if number in self._taken:
                raise UnrecordableError("it changes an input in place")
        memory = [memory_of(tensor) for tensor in self._recording.external.values()]
        for number in self._mutated:
            if memory.count(memory_of(self._fixed[number])) > 1:
                raise UnrecordableError("it changes memory that several tensors share")

    def _result(self, value: Any, leaves: Sequence[torch.Tensor]) -> Result:
        if isinstance(value, _CONSTANTS):
            return Result(value=value)
        if not isinstance(value, torch.Tensor):
            raise UnrecordableError(f"a {type(value).__name__} of it is used afterwards")
        number = self._recording.number(value)
        if number in self._taken:
            return Result(taken=self._taken[number])
        if number in self._fixed:
            return Result(value=value)
        graph = None
        if self._exact and value.grad_fn is not None:
            graph = SpentGraph(type(value.grad_fn).__name__, _why_spent(value, leaves), leaves)
        return Result(output=self._output(value), graph=graph)

    def _output(self, value: torch.Tensor) -> int:
        number = self._recording.number(value)
        if number is None:
            raise UnrecordableError("a tensor of it was not computed by operations")
        if number in self._fixed:
            raise UnrecordableError("it adds to gradients that were there before")
        if number not in self._graph.outputs:
            self._graph.outputs.append(number)
        return self._graph.outputs.index(number)

    def _changed(self, parameter: torch.Tensor, before: torch.Tensor | None) -> bool:
        if parameter.grad is None:
            return before is not None
        return self._recording.number(parameter.grad) is not None or parameter.grad is not before

    def _require_apart(self) -> None:
        """Raises if outputs share memory with each other, or with what stays."""
        memory = {memory_of(tensor) for tensor in self._fixed.values()}
        for number in self._graph.outputs:
            where = memory_of(self._recording.tensor(number))
            if where in memory:
                raise UnrecordableError("results of it share memory")
            memory.add(where)


def _why_spent(value: torch.Tensor, leaves: Sequence[torch.Tensor]) -> str:
    """Returns what torch says if there is another backward through a graph.

    Raises:
        UnrecordableError: It says nothing, as a graph that saved no tensors can be used again.
    """
    try:
        torch.autograd.grad(value, leaves, torch.zeros_like(value), allow_unused=True)
    except RuntimeError as error:
        if "a second time" in str(error):
            return str(error)
    raise UnrecordableError("there could be another backward through the graph of a result")
