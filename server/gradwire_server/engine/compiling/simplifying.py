"""Leaves out of a recorded step what makes no difference to what it computes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gradwire_server.engine.compiling.graph import Graph, Node
from gradwire_server.engine.compiling.recording import Recording, layout_of, memory_of

_DETACH, _TRANSPOSE = "aten.detach.default", "aten.t.default"
_EMPTY, _COPY = "aten.new_empty_strided.default", "aten.copy_.default"


def simplify(recording: Recording, outputs: Sequence[int]) -> None:
    """Makes the graph of a recording shorter; `Graph.outputs` become what `outputs` are then.

    Values that are detached are the same where there is no autograd, and what is transposed twice
    is what it was. Autograd lets a parameter have the tensor that its gradient was computed in;
    only as the recording holds that one, too, there is a copy.

    Args:
        recording: The recording.
        outputs: The numbers of the values that are wanted.
    """
    simplifier = _Simplifier(recording, outputs)
    recording.graph.outputs = simplifier.outputs
    recording.graph.nodes = _without_unused(recording.graph, simplifier.nodes)


class _Simplifier:
    """Goes through a graph once.

    Attributes:
        nodes: What is left of it.
        outputs: What its outputs are now.
    """

    def __init__(self, recording: Recording, outputs: Sequence[int]) -> None:
        self._recording = recording
        self._wanted = set(outputs)
        self._same: dict[int, int] = {}
        self._transposed: dict[int, int] = {}
        self._copies = self._find_copies()
        self.nodes = [node for node in recording.graph.nodes if self._is_needed(node)]
        for node in self.nodes:
            node.args[:] = [self._renamed(argument) for argument in node.args]
            node.kwargs.update({k: self._renamed(v) for k, v in node.kwargs.items()})
        self.outputs = [self._name(number) for number in outputs]

    def _is_needed(self, node: Node) -> bool:
        """Returns whether a node is to stay; notes what stands for its result if not."""
        if node.name in (_EMPTY, _COPY):
            target = node.results[0] if node.name == _EMPTY else _number(node.args[0])
            if target not in self._copies:
                return True
            self._same[target] = self._copies[target]
            return False
        if node.name not in (_DETACH, _TRANSPOSE):
            return True
        source, result = self._name(_number(node.args[0])), node.results[0]
        assert result is not None
        if node.name == _TRANSPOSE:
            before = self._transposed.get(source)
            self._transposed[result] = source
            if before is None:
                return True
            source = before
        if result in self._wanted:
            # Another tensor in the same memory.
            return True
        self._same[result] = source
        return False

    def _find_copies(self) -> dict[int, int]:
        """Returns which value may stand for each that is a copy made for a parameter."""
        recording, nodes = self._recording, self._recording.graph.nodes
        made = {node.results[0] for node in nodes if node.name == _EMPTY}
        taken = {memory_of(tensor) for tensor in recording.external.values()}
        found: dict[int, int] = {}
        later: set[int] = set()
        for node in reversed(nodes):
            used = set(_numbers_in([*node.args, *node.kwargs.values()]))
            if node.name == _COPY:
                target, source = _number(node.args[0]), _number(node.args[1])
                memory = memory_of(recording.tensor(source))
                if (
                    target in made
                    and target in self._wanted
                    and memory not in taken | later
                    and _are_alike(recording.tensor(target), recording.tensor(source))
                ):
                    found[target] = source
                    taken.add(memory)
            later |= {memory_of(recording.tensor(number)) for number in used}
        wanted = [memory_of(recording.tensor(number)) for number in self._wanted]
        return {
            target: source
            for target, source in found.items()
            if memory_of(recording.tensor(source)) not in wanted
        }

    def _name(self, number: int) -> int:
        while number in self._same:
            number = self._same[number]
        return number

    def _renamed(self, argument: Any) -> Any:
        return _mapped(argument, self._name)


def _without_unused(graph: Graph, nodes: Sequence[Node]) -> list[Node]:
    """Returns the nodes that change something, draw random numbers, or whose results are used."""
    used = set(graph.outputs)
    left: list[Node] = []
    for node in reversed(nodes):
        function = node.overload
        if (
            not used.isdisjoint(node.results)
            or function._schema.is_mutable
            or torch.Tag.nondeterministic_seeded in function.tags
        ):
            used.update(_numbers_in([*node.args, *node.kwargs.values()]))
            left.append(node)
    left.reverse()
    return left


def _are_alike(first: torch.Tensor, second: torch.Tensor) -> bool:
    return (
        first.shape == second.shape
        and first.dtype == second.dtype
        and layout_of(first) == layout_of(second)
    )


def _number(argument: Any) -> int:
    number: int = argument["value"]
    return number


def _numbers_in(arguments: Sequence[Any]) -> Iterator[int]:
    for argument in arguments:
        if isinstance(argument, list):
            yield from _numbers_in(argument)
        elif isinstance(argument, dict) and "value" in argument:
            yield argument["value"]


def _mapped(argument: Any, name: Callable[[int], int]) -> Any:
    if isinstance(argument, list):
        return [_mapped(element, name) for element in argument]
    if isinstance(argument, dict) and "value" in argument:
        return {"value": name(argument["value"])}
    return argument
