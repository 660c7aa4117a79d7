"""Recording a step: it is taken once, and every operation below autograd is written down."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradwire_server.engine.compiling.graph import (
    Graph,
    Node,
    TensorInfo,
    UnrecordableError,
    encode,
)
from gradwire_server.engine.compiling.indices import CHECKED, Indexing, is_unsafe

MAX_NODES = 20_000
"""A step of more operations is not compiled: that would take hours."""
_DEPENDS_ON_DATA = (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)


_HONEST = {
    torch.ops.aten.native_batch_norm.default: torch.ops.aten._native_batch_norm_legit.default
}
"""Operations that change running statistics and do not say so, each with the one that does."""
_RUNNING_MEAN = 3
"""Which argument of theirs the running mean is."""


class Recording(TorchDispatchMode):
    """Writes down what runs within its ``with`` block.

    Tensors that were there before are the inputs of the graph, in the order of their first use.

    Args:
        compiled: Whether the graph is to be compiled. Compiled code checks no indices; the graph
            then does.
        limit_bytes: How much memory may be held by it: all tensors of the step.

    Attributes:
        graph: What ran; complete after the block.
        external: The tensors that are inputs, by value number.
        draws: Whether random numbers were drawn.
        out_of_range: The values that are true if an index is out of range.
    """

    def __init__(self, *, compiled: bool, limit_bytes: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._compiled = compiled
        self._room_bytes = limit_bytes
        self.graph = Graph()
        self.external: dict[int, torch.Tensor] = {}
        self.draws = False
        self._numbers: dict[int, int] = {}
        self.out_of_range: list[int] = []
        self._checked: dict[tuple[int, int, int | None], int] = {}
        self._written: set[int] = set()
        # A tensor that is gone could leave its identity to another.
        self._kept: list[torch.Tensor | None] = []
        # Where the memory of tensors begins that were there before, and of others.
        self._given: set[int] = set()
        self._made: set[int] = set()
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._failure = ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs an operation and writes it down."""
        del types
        kwargs = kwargs or {}
        if func in _HONEST and args[_RUNNING_MEAN] is not None:
            func = _HONEST[func]
        if func._schema.is_mutable:
            self._note_written(func, args, kwargs)
        if self._failure or func.namespace == "profiler":
            return func(*args, **kwargs)
        try:
            self._require_possible(func, args)
            given = [encode(argument, self._number) for argument in args]
            if self._compiled and func in CHECKED:
                self._check_indices(CHECKED[func], args, given)
            named = {name: encode(argument, self._number) for name, argument in kwargs.items()}
        except UnrecordableError as error:
            # The step goes on: it is a step like others.
            self._fail(str(error))
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        results = result if isinstance(result, list | tuple) else [result]
        self._room_bytes -= sum(t.nbytes for t in results if isinstance(t, torch.Tensor))
        if self._room_bytes < 0:
            self._fail("its tensors take too much memory to hold them all at once")
            return result
        self.graph.nodes.append(
            Node(
                name=f"{func.namespace}.{func.__name__}",
                args=given,
                kwargs=named,
                results=[self._result(each, func._schema.is_mutable) for each in results],
                single=not isinstance(result, list | tuple),
            )
        )
        return result

    @property
    def next_value(self) -> int:
        """A number from which on none is taken."""
        return len(self._kept)

    @property
    def mutated(self) -> list[int]:
        """The inputs that were changed in place, by value number."""
        return [n for n, tensor in self.external.items() if memory_of(tensor) in self._written]

    def undo(self) -> None:
        """Puts back what was in tensors that were changed in place."""
        with torch.no_grad():
            for tensor, copy in reversed(self._before):
                tensor.copy_(copy)

    def require_complete(self) -> None:
        """Raises UnrecordableError if not all of the step is in the graph."""
        if self._failure:
            raise UnrecordableError(self._failure)

    def number(self, tensor: torch.Tensor) -> int | None:
        """Returns the value number of a tensor; None if nothing that ran touched it."""
        return self._numbers.get(id(tensor))

    def tensor(self, number: int) -> torch.Tensor:
        """Returns the tensor of a value number."""
        tensor = self._kept[number]
        assert tensor is not None
        return tensor

    def add(self, name: str, *args: Any) -> int:
        """Adds an operation that did not run; returns the number of its result."""
        self._kept.append(None)
        result = len(self._kept) - 1
        self.graph.nodes.append(Node(name=name, args=[*args], kwargs={}, results=[result]))
        return result

    def _check_indices(self, indexing: Indexing, args: tuple[Any, ...], given: list[Any]) -> None:
        """Lets an operation use indices that are in range, and the graph know if others were."""
        ignored = args[indexing.ignored] if 0 <= indexing.ignored < len(args) else None
        key = (given[indexing.index]["value"], indexing.limit(args), ignored)
        if key not in self._checked:
            index, limit = given[indexing.index], key[1]
            low, high = (
                self.add("aten.lt.Scalar", index, 0),
                self.add("aten.ge.Scalar", index, limit),
            )
            bad = self.add("aten.bitwise_or.Tensor", {"value": low}, {"value": high})
            used = self.add("aten.clamp.default", index, 0, max(limit - 1, 0))
            if ignored is not None:
                counts = self.add("aten.ne.Scalar", index, ignored)
                bad = self.add("aten.bitwise_and.Tensor", {"value": bad}, {"value": counts})
                used = self.add("aten.where.self", {"value": counts}, {"value": used}, index)
            self.out_of_range.append(self.add("aten.any.default", {"value": bad}))
            self._checked[key] = used
        given[indexing.index] = {"value": self._checked[key]}

    def _require_possible(self, func: Any, args: tuple[Any, ...]) -> None:
        if self._compiled and is_unsafe(func, args):
            raise UnrecordableError(f"native code of {func} could end the worker")
        if func.namespace != "aten":
            raise UnrecordableError(f"{func} is no operation of ATen")
        if _depends_on_data(func, args):
            raise UnrecordableError(f"what {func} returns depends on the values of tensors")
        if len(self.graph.nodes) >= MAX_NODES:
            raise UnrecordableError(f"it has more than {MAX_NODES} operations")
        self.draws |= torch.Tag.nondeterministic_seeded in func.tags

    def _fail(self, why: str) -> None:
        self._failure = why
        self._kept.clear()
        self._numbers.clear()
        self.external.clear()

    def _note_written(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Notes which memory an operation in place changes."""
        for index, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            for tensor in value if isinstance(value, list | tuple) else [value]:
                if isinstance(tensor, torch.Tensor):
                    memory = memory_of(tensor)
                    self._written.add(memory)
                    if memory not in self._made:
                        self._before.append((tensor, tensor.detach().clone()))

    def _number(self, tensor: torch.Tensor) -> int:
        known = self._numbers.get(id(tensor))
        if known is not None:
            return known
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise UnrecordableError(f"a tensor is a {type(tensor).__name__}")
        number = self._new(tensor)
        self.graph.inputs[number] = TensorInfo.of(tensor)
        self.external[number] = tensor
        self._given.add(memory_of(tensor))
        return number

    def _result(self, value: Any, mutable: bool) -> int | None:
        if not isinstance(value, torch.Tensor):
            return None
        if id(value) in self._numbers:
            # An operation in place returns what it was given.
            return None if mutable else self._numbers[id(value)]
        memory = memory_of(value)
        if memory not in self._given:
            self._made.add(memory)
        return self._new(value)

    def _new(self, tensor: torch.Tensor) -> int:
        self._kept.append(tensor)
        self._numbers[id(tensor)] = number = len(self._kept) - 1
        return number


def _depends_on_data(func: Any, args: tuple[Any, ...]) -> bool:
    """Returns whether what an operation returns, or its size, depends on what is in tensors."""
    if not any(tag in func.tags for tag in _DEPENDS_ON_DATA):
        return False
    # Numbers choose as many elements as there are numbers; masks do not.
    return func is not torch.ops.aten.index.Tensor or any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    )


def layout_of(tensor: torch.Tensor) -> list[tuple[int, int]]:
    """Returns the sizes and strides of a tensor, without dimensions of size 1."""
    return [each for each in zip(tensor.shape, tensor.stride(), strict=True) if each[0] != 1]


def memory_of(tensor: torch.Tensor) -> int:
    """Returns where the memory of a tensor begins; an empty one has none that it shares."""
    return tensor.untyped_storage().data_ptr() or id(tensor)


_TRACEABLE: dict[str, Any] = {"foreach": True, "capturable": True, "fused": False}
"""Options that make an optimizer compute with tensors alone, as torch.compile sets them."""


class Rate:
    """A learning rate as a tensor, so that a step that was recorded with it serves any other."""

    def __init__(self, group: dict[str, Any]) -> None:
        self._group = group
        self._last = float(group["lr"])
        first = group["params"][0]
        dtype = torch.float64 if first.dtype is torch.float64 else torch.float32
        self.tensor = torch.tensor(self._last, dtype=dtype, device=first.device)

    def follow(self) -> None:
        """Takes over the learning rate that the parameter group has now."""
        rate = self._group["lr"]
        if rate != self._last:
            self._last = rate
            self.tensor.fill_(rate)


@contextmanager
def traceable(optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[list[Rate]]:
    """Lets optimizers compute with tensors alone within the block, their learning rates too.

    Yields:
        The learning rates, but for those that are tensors anyway.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    before = [
        {name: group[name] for name in ("lr", *_TRACEABLE) if name in group} for group in groups
    ]
    rates: list[Rate] = []
    try:
        for group in groups:
            if isinstance(group.get("lr"), float | int):
                rates.append(Rate(group))
                group["lr"] = rates[-1].tensor
            group.update({name: value for name, value in _TRACEABLE.items() if name in group})
        # What optimizers ask to know that they must not wait for the value of a tensor.
        torch.compiler._is_compiling_flag = True
        yield rates
    finally:
        torch.compiler._is_compiling_flag = False
        for group, options in zip(groups, before, strict=True):
            group.update(options)
