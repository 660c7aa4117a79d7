"""A recorded step as a function of torch's own graph interpreter.

It calls the operations that were recorded, one after the other and with the same arguments, so the
results are the same to the last bit; there is no Python between them, and no autograd.
"""

from typing import Any

import torch

from gradwire_server.engine.compiling.builds import BuildError
from gradwire_server.engine.compiling.graph import Graph, Node, decode

_MEMORY_FORMATS = {
    torch.contiguous_format: 0,
    torch.preserve_format: 1,
    torch.channels_last: 2,
    torch.channels_last_3d: 3,
}
"""The numbers of `c10::MemoryFormat`, which the interpreter has no constants for."""


class Interpreted:
    """Runs a graph.

    Raises:
        BuildError: The interpreter would not call just what was recorded.
    """

    def __init__(self, graph: Graph) -> None:
        self.is_faster: bool | None = None
        # It would look for what to fuse. The setting is the thread's, and there is only one.
        torch._C._set_graph_executor_optimize(False)
        try:
            made = _Builder(graph).made
            self._function = torch._C._create_function_from_graph("step", made)
        except (RuntimeError, TypeError) as error:
            raise BuildError(f"the graph can't be interpreted: {error}") from error

    def __call__(self, tensors: list[torch.Tensor], /) -> Any:
        """Takes the inputs of the graph and returns the outputs."""
        return self._function(*tensors)


class _Builder:
    """Makes a graph of torch's interpreter.

    Attributes:
        made: The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.made: Any = torch._C.Graph()
        self._values: dict[int, Any] = {number: self.made.addInput() for number in graph.inputs}
        self._constants: dict[str, Any] = {}
        for node in graph.nodes:
            self._add(node)
        outputs = [self._values[number] for number in graph.outputs]
        packed = self._insert("prim::TupleConstruct", outputs, 1)
        packed.output().setType(torch._C.TupleType([output.type() for output in outputs]))
        self.made.registerOutput(packed.output())

    def _add(self, node: Node) -> None:
        schema = node.overload._schema
        given = [
            node.args[index]
            if index < len(node.args)
            else node.kwargs.get(argument.name, argument.default_value)
            for index, argument in enumerate(schema.arguments)
        ]
        kinds = [argument.type for argument in schema.arguments]
        arguments = [self._argument(*each) for each in zip(given, kinds, strict=True)]
        made = self._insert(schema.name, arguments, len(schema.returns))
        # The interpreter does not make a tensor of a number, it calls the overload that does.
        has_number = any(
            isinstance(argument, int | float | complex) and kind.kind() == "TensorType"
            for argument, kind in zip(given, kinds, strict=True)
        )
        if made.schema() != str(schema) and not has_number:
            raise BuildError(f"{schema.name} would be called as {made.schema()}, not {schema}")
        outputs = list(made.outputs())
        if len(outputs) == 1 and not node.single and len(schema.returns) == 1:
            outputs = list(self._insert("prim::ListUnpack", outputs, len(node.results)).outputs())
        for number, output in zip(node.results, outputs, strict=False):
            if number is not None:
                self._values[number] = output

    def _argument(self, argument: Any, kind: Any) -> Any:
        """Returns the interpreter's value for an encoded argument, of a type of its schema."""
        if isinstance(argument, dict) and "value" in argument:
            return self._values[argument["value"]]
        if isinstance(argument, list) and (not argument or _has_values(argument)):
            while kind.kind() == "OptionalType":
                kind = kind.getElementType()
            elements = [self._argument(each, kind.getElementType()) for each in argument]
            made = self._insert("prim::ListConstruct", elements, 1).output()
            made.setType(kind)
            return made
        known = self._constants.get(repr(argument))
        if known is None:
            value = decode(argument, {})
            value = _MEMORY_FORMATS.get(value, value) if _is_hashable(value) else value
            known = self._constants[repr(argument)] = self.made.insertConstant(value)
        return known

    def _insert(self, kind: str, inputs: list[Any], num_outputs: int) -> Any:
        node = self.made.create(kind, inputs, num_outputs)
        self.made.insertNode(node)
        return node


def _has_values(argument: list[Any]) -> bool:
    return any(isinstance(each, dict) and "value" in each for each in argument)


def _is_hashable(value: Any) -> bool:
    return not isinstance(value, list)
