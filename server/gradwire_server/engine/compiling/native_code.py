"""What the compiler is told for a CPU, where what it would do by itself is slower than torch."""

from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch._inductor import lowering
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.decomposition import decompositions

from gradwire_server.engine.compiling.graph import Graph, Node

MIN_CHUNK_SIZE = 16384
"""A loop over fewer elements for each thread stays on one: to start and join threads takes longer.
The default, 512, made a step of the digits net twice as slow with two threads as with one."""

_TORCH_IS_FASTER = (
    torch.ops.aten.max_pool2d_with_indices.default,
    torch.ops.aten.max_pool2d_with_indices_backward.default,
)
"""Operations that torch's own kernels carry out in less time than compiled loops: a quarter of the
time of a step of a small convolutional net."""


class ScalarsFirst(CustomGraphPass):
    """Lets what a loop over a tensor needs of scalars be computed before the loop.

    Else it becomes part of the loop's body, where nothing is known of it but that it is a memory
    access: the powers that Adam corrects its averages by took half of the time of its loop.
    """

    def __call__(self, graph: fx.Graph) -> None:
        """Marks such scalars as values that are stored."""
        for node in graph.nodes:
            value = node.meta.get("val")
            if (
                node.op == "call_function"
                and isinstance(value, torch.Tensor)
                and not value.dim()
                and value.is_floating_point()
                and any(tensor.dim() for user in node.users for tensor in _tensors(user))
            ):
                node.meta["inductor_realize_to_strides"] = True

    def uuid(self) -> Any:
        """Returns what compiled graphs are kept under, beside the graph."""
        return get_hash_for_files((__file__,))


def separate_norms(graph: Graph) -> Graph:
    """Returns a graph in which each tensor of a list has its norm computed by itself.

    Compiled code would call torch for the list, by way of its interpreter: that took 4 of the 14 us
    of a step of the notebook's net.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name != "aten._foreach_norm.Scalar" or len(node.args) > 2:
            nodes.append(node)
            continue
        tensors, *order = node.args
        nodes += [
            Node(
                name="aten.linalg_vector_norm.default",
                args=[tensor, *order],
                kwargs=node.kwargs,
                results=[result],
            )
            for tensor, result in zip(tensors, node.results, strict=True)
        ]
    return replace(graph, nodes=nodes)


def compiler_options() -> dict[str, Any]:
    """Returns the options of the compiler; some hold for the whole process from now on."""
    for function in _TORCH_IS_FASTER:
        decompositions.pop(function, None)
        lowering.make_fallback(function, warn=False, override_decomp=True)
    return {
        # Random numbers are drawn as torch draws them, so a step can be compared with torch's.
        "fallback_random": True,
        "cpp.min_chunk_size": MIN_CHUNK_SIZE,
        "post_grad_custom_post_pass": ScalarsFirst(),
    }


def _tensors(node: fx.Node) -> list[torch.Tensor]:
    """Returns the results of a node, as far as they are tensors."""
    value = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, torch.Tensor)]
