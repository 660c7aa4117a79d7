"""Graphs of steps as modules of torch.fx."""

import operator

import torch
from torch import fx

from gradwire_server.engine.compiling.graph import Graph, decode


def to_module(graph: Graph) -> fx.GraphModule:
    """Returns a graph as a module of torch.fx whose forward takes the graph's inputs."""
    made = fx.Graph()
    values = {number: made.placeholder(f"v{number}") for number in graph.inputs}
    for node in graph.nodes:
        call = made.call_function(
            node.overload,
            tuple(decode(argument, values) for argument in node.args),
            {name: decode(argument, values) for name, argument in node.kwargs.items()},
        )
        for index, number in enumerate(node.results):
            if number is not None and number not in values:
                values[number] = (
                    call if node.single else made.call_function(operator.getitem, (call, index))
                )
    made.output(tuple(values[number] for number in graph.outputs))
    return fx.GraphModule(torch.nn.Module(), made)
