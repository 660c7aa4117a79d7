"""What values keep in memory: their own storages and those that autograd saved for them."""

from collections.abc import Hashable, Iterable, Iterator
from functools import cache
from typing import Any

import torch

NODE_BYTES = 256
"""About what a node of a graph takes beside the tensors that it saved."""

_FREED = "after they have already been freed"


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """Returns a tensor's storage; None if it has none of its own or none that takes memory."""
    if tensor.is_meta:
        return None
    try:
        # autograd's zero tensors have no elements in memory either.
        return None if tensor._is_zerotensor() else tensor.untyped_storage()
    except (NotImplementedError, ValueError, RuntimeError):
        # Sparse and uninitialised tensors have no storage of their own to ask.
        return None


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yields the tensors reachable from values, gradients of leaves included."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
            if value.is_leaf and value.grad is not None:
                yield value.grad
            if value.layout != torch.strided:
                yield from _parts_of_sparse(value)
        elif isinstance(value, torch.nn.Module):
            yield from tensors_in(value.parameters())
            yield from value.buffers()
        elif isinstance(value, torch.optim.Optimizer):
            for state in list(value.state.values()):
                yield from tensors_in(state.values() if isinstance(state, dict) else ())
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def has_live_graph(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether a backward could go through the graph of one of the tensors.

    Graphs that saved nothing do not count: of those nobody can say whether a backward freed them.
    """
    return any(tensor.grad_fn is not None and _is_live(tensor.grad_fn) for tensor in tensors)


def _is_live(root: Any) -> bool:
    saved: list[torch.Tensor] = []
    pending, seen = [root], {root}
    while pending:
        node = pending.pop()
        if _collect_saved(node, saved):
            # A backward would end here, so none will come.
            return False
        following = {next_node for next_node, _ in node.next_functions if next_node} - seen
        seen |= following
        pending.extend(following)
    return bool(saved)


def _parts_of_sparse(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    names = {
        torch.sparse_coo: ("_indices", "_values"),
        torch.sparse_csr: ("crow_indices", "col_indices", "values"),
        torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
        torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
        torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
    }
    if not tensor.is_meta:
        plain = tensor.detach()
        yield from (getattr(plain, name)() for name in names.get(tensor.layout, ()))


class Reach:
    """Counts the bytes that values keep, each storage once.

    Args:
        count_leaves: Whether to count the leaves that graphs lead to, parameters among them.

    Attributes:
        leaves: The leaves that the graphs lead to, by id.
        num_bytes: The bytes of all storages and nodes that were followed.
    """

    def __init__(self, *, count_leaves: bool) -> None:
        self.leaves: dict[int, torch.Tensor] = {}
        self.num_bytes = 0
        self._count_leaves = count_leaves
        self._storages: set[int] = set()
        self._nodes: set[Any] = set()

    def follow(self, tensors: Iterable[torch.Tensor]) -> None:
        """Adds what these tensors keep."""
        pending: list[Any] = []
        saved: list[torch.Tensor] = []
        for tensor in tensors:
            saved.append(tensor)
            if tensor.grad_fn is not None:
                pending.append(tensor.grad_fn)
        freed = False
        while pending:
            node = pending.pop()
            if node in self._nodes:
                continue
            self._nodes.add(node)
            self.num_bytes += NODE_BYTES
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                self._add_leaf(leaf, saved)
            if not freed:
                freed = _collect_saved(node, saved)
            pending.extend(following for following, _ in node.next_functions if following)
        for tensor in saved:
            self._add_storage(tensor)

    def _add_leaf(self, leaf: torch.Tensor, saved: list[torch.Tensor]) -> None:
        self.leaves[id(leaf)] = leaf
        storage = storage_of(leaf)
        if self._count_leaves:
            saved.append(leaf)
            if leaf.grad is not None:
                saved.append(leaf.grad)
        elif storage is not None:
            self._storages.add(storage._cdata)

    def _add_storage(self, tensor: torch.Tensor) -> None:
        # Not by the address of the memory: to ask for it takes a copy of memory that is shared
        # until it is written to.
        storage = storage_of(tensor)
        if storage is not None and storage._cdata not in self._storages:
            self._storages.add(storage._cdata)
            self.num_bytes += storage.nbytes()


def _collect_saved(node: Any, saved: list[torch.Tensor]) -> bool:
    """Adds the tensors that a node saved; returns whether its graph was freed by a backward."""
    for name in _saved_names(node.__class__):
        try:
            value = getattr(node, name)
        except RuntimeError as error:
            if _FREED in str(error):
                return True
            # Modified in place since: autograd refuses to show it.
            continue
        saved.extend(tensors_in([value]))
    return False


@cache
def _saved_names(node_type: Hashable) -> tuple[str, ...]:
    return tuple(
        name
        for name in dir(node_type)
        if name == "saved_tensors" or (name.startswith("_saved_") and "_sym_" not in name)
    )
