"""Models, losses and metrics written in Python as data: recorded on samples, once for each case."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, is_dataclass
from functools import partial
from typing import Any

from gradwire.calls import RemoteObject
from gradwire.grad_mode import no_grad
from gradwire.nn.builtin import BuiltinModule
from gradwire.nn.module import Module
from gradwire.recorder.keys import encode, message
from gradwire.recorder.trace import Trace, trace
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.transforms import evaluating
from gradwire.v1 import models_pb2, runs_pb2, values_pb2

BatchTransform = Callable[[Sequence[Any], Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]]
"""From the inputs and the targets of a batch to those of another."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch to record with.

    Attributes:
        inputs: What the model is called with.
        targets: What the loss takes beside the outputs.
        training: In which mode the model is.
    """

    inputs: Sequence[Tensor]
    targets: Sequence[Tensor]
    training: bool


@dataclass(kw_only=True)
class Recorded:
    """A model, a loss and metrics as data.

    Attributes:
        module: The model.
        loss: The loss.
        metrics: The metrics.
        transform: What becomes of batches of training, if anything.
        evaluation_transform: What becomes of those of evaluations.
        alive: What these refer to by handle; to be kept until the server has decoded them.
    """

    module: models_pb2.ModuleSpec
    loss: models_pb2.LossSpec
    metrics: list[runs_pb2.Metric]
    transform: runs_pb2.BatchTransform | None
    evaluation_transform: runs_pb2.BatchTransform | None
    alive: list[Trace] = field(default_factory=list)


def record(
    session: Session,
    model: Module,
    loss: Module | Callable[..., Any],
    metrics: Mapping[str, Any],
    cases: Sequence[Case],
    *,
    transform: BatchTransform | None = None,
) -> Recorded:
    """Returns a model, a loss and metrics as data; functions in Python are run to record them.

    They run once for each case, without effects on random numbers, buffers and modes, so what they
    do may depend on the size of a batch and on the mode.

    Args:
        session: The session.
        model: The model.
        loss: The loss.
        metrics: Metrics by name: functions, or the name of one with its arguments.
        cases: The first is the usual one.
        transform: What becomes of a batch before the model sees it.

    Raises:
        ValueError: A function reads the value of a tensor.
    """
    functions = {name: metric for name, metric in metrics.items() if callable(metric)}
    plain_model, plain_loss = isinstance(model, BuiltinModule), isinstance(loss, BuiltinModule)
    forward, loss_program = _Variants(), _Variants()
    programs = {name: _Variants() for name in functions}
    transforms = {True: _Transforms(transform), False: _Transforms(transform)}
    if not plain_model or not plain_loss or functions or transform is not None:
        with _without_effects(session, model):
            for case in cases:
                _set_training(model, case.training)
                inputs, targets = transforms[case.training].record(session, case)
                returned: list[Any] = []
                run = partial(_run, model, returned)
                outputs = forward.record(session, run, inputs, case.training)
                arguments = [*outputs, *targets]
                # Functions get the structure that the model returned; programs know its tensors.
                whole = [*returned, *targets]
                if not plain_loss:
                    loss_program.record(session, partial(_ignore_arguments, loss, whole), arguments)
                if not case.training:
                    for name, function in functions.items():
                        again = partial(_ignore_arguments, function, whole)
                        programs[name].record(session, again, arguments)
    spec = _module_spec(session, model)
    if not plain_model:
        spec.forward.CopyFrom(forward.program())
    if plain_loss:
        loss_spec = models_pb2.LossSpec(handle=session.handle(loss))
    else:
        loss_spec = models_pb2.LossSpec(program=loss_program.program())
    recorded = [
        *(forward, loss_program, *programs.values()),
        *(each.variants for each in transforms.values()),
    ]
    return Recorded(
        module=spec,
        loss=loss_spec,
        metrics=[
            runs_pb2.Metric(name=name, program=programs[name].program())
            if name in programs
            else runs_pb2.Metric(name=name, torchmetric=_torchmetric(*metric))
            for name, metric in metrics.items()
        ],
        transform=transforms[True].message(),
        evaluation_transform=transforms[False].message(),
        alive=[one for variants in recorded for one in variants.alive],
    )


class _Variants:
    """What one function did in each case, as one program."""

    def __init__(self) -> None:
        self.alive: list[Trace] = []
        self._programs: list[tuple[int | None, bool | None, values_pb2.Program]] = []

    def record(
        self,
        session: Session,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        training: bool | None = None,
    ) -> Sequence[Any]:
        """Records the function on arguments; returns its outputs."""
        program, outputs, traced = trace(session, function, arguments)
        self.alive.append(traced)
        shape = next((value.shape for value in arguments if isinstance(value, Tensor)), ())
        self._programs.append((shape[0] if shape else None, training, program))
        return list(outputs) if isinstance(outputs, tuple) else [outputs]

    def program(self) -> values_pb2.Program:
        """Returns the program of the usual case, with those that differ as variants."""
        usual = self._programs[0][2]
        combined = values_pb2.Program()
        combined.CopyFrom(usual)
        for size, training, program in self._programs[1:]:
            # One that does the same needs no variant, unless a less telling one would be taken.
            if program != usual or combined.variants:
                combined.variants.add(size=size, training=training, program=program)
        return combined


def _run(model: Module, returned: list[Any], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Runs a model; notes what it returned, and returns the tensors in that."""
    output = model(*inputs)
    returned[:] = output if isinstance(output, tuple) else [output]
    return tuple(_tensors_in(returned))


def _ignore_arguments(function: Callable[..., Any], arguments: Sequence[Any], *_: Any) -> Any:
    return function(*arguments)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Yields the tensors of a structure in order: tuples, lists, mappings, dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for element in value:
            yield from _tensors_in(element)
    elif is_dataclass(value):
        yield from _tensors_in(list(vars(value).values()))


class _Transforms:
    """What a transform did in each case of one mode."""

    def __init__(self, transform: BatchTransform | None) -> None:
        self.variants = _Variants()
        self._transform = transform
        self._num_inputs = 0

    def record(self, session: Session, case: Case) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Records the transform on a batch; returns what becomes of that."""
        if self._transform is None:
            return case.inputs, case.targets
        transform = self._transform
        count = len(case.inputs)

        def apply(*values: Any) -> tuple[Any, ...]:
            inputs, targets = transform(values[:count], values[count:])
            self._num_inputs = len(inputs)
            return (*inputs, *targets)

        with nullcontext() if case.training else evaluating():
            outputs = self.variants.record(session, apply, [*case.inputs, *case.targets])
        for output in outputs:
            if not isinstance(output, Tensor):
                raise TypeError(f"a transform returns a {type(output).__name__}, not a tensor")
        return outputs[: self._num_inputs], outputs[self._num_inputs :]

    def message(self) -> runs_pb2.BatchTransform | None:
        """Returns the transform as data; None if there is none, or no case of its mode."""
        if not self._num_inputs:
            return None
        return runs_pb2.BatchTransform(program=self.variants.program(), num_inputs=self._num_inputs)


def both_transforms(
    transform: Callable[..., Any] | None, target_transform: Callable[..., Any] | None
) -> BatchTransform | None:
    """Returns what becomes of inputs and targets by a transform of each; None if there is none."""
    if transform is None and target_transform is None:
        return None

    def apply(inputs: Sequence[Any], targets: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        return _applied(transform, inputs), _applied(target_transform, targets)

    return apply


def _applied(function: Callable[..., Any] | None, values: Sequence[Any]) -> Sequence[Any]:
    if function is None:
        return values
    made = function(*values)
    return made if isinstance(made, tuple | list) else [made]


def _torchmetric(type_name: str, kwargs: Mapping[str, Any]) -> runs_pb2.TorchMetric:
    return runs_pb2.TorchMetric(type=type_name, kwargs=values(kwargs))


def values(arguments: Mapping[str, Any]) -> dict[str, values_pb2.Value]:
    """Returns plain arguments as messages.

    Raises:
        TypeError: There is no way to send one of them.
    """

    def refuse(value: Any) -> Any:
        raise TypeError(f"{value!r} can't be an argument here; plain values can")

    return {name: message(encode(value, refuse)) for name, value in arguments.items()}


@contextmanager
def _without_effects(session: Session, model: Module) -> Iterator[None]:
    """Lets the model run without moving random numbers, running statistics or modes."""
    with no_grad():
        state = RemoteObject(session.record("gradwire.random_state", (), {}))
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        modes = [(module, module.training) for module in model.modules()]
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            # Outermost first: a module's mode goes to those below it.
            for module, training in modes:
                if module.training != training:
                    module.train(training)
            session.record("gradwire.set_random_state", (state,), {}, wanted=False)


def _set_training(model: Module, training: bool) -> None:
    if any(module.training != training for module in model.modules()):
        model.train(training)


def _module_spec(session: Session, module: Module) -> models_pb2.ModuleSpec:
    """Returns a module tree as data: what lives on the server by handle, the rest as containers."""
    if isinstance(module, BuiltinModule):
        return models_pb2.ModuleSpec(handle=session.handle(module))
    spec = models_pb2.ModuleSpec(type="torch.nn.Module")
    for name, child in module._modules.items():
        if child is not None:
            spec.children.add(name=name, module=_module_spec(session, child))
    for buffer, table in ((False, module._parameters), (True, module._buffers)):
        for name, tensor in table.items():
            if tensor is not None:
                value = values_pb2.Value(handle=session.handle(tensor))
                spec.tensors.add(name=name, buffer=buffer, value=value)
    return spec
