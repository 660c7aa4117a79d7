"""Training loops that run on the server: `train`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from tqdm.auto import tqdm

from gradwire.calls import RemoteObject, session_of
from gradwire.creation import as_tensor
from gradwire.grad_mode import no_grad
from gradwire.nn.builtin import BuiltinModule
from gradwire.nn.module import Module
from gradwire.optim.optimizer import Optimizer
from gradwire.recorder.trace import Trace, trace
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.v1 import models_pb2, models_pb2_grpc, runs_pb2, runs_pb2_grpc, values_pb2


@dataclass(kw_only=True)
class TrainResult:
    """What a training run did.

    Attributes:
        losses: The loss of each step, in order.
        mean_loss: The mean loss of the last epoch, weighted by samples.
        num_steps: How many steps were taken.
        elapsed_seconds: How long they took on the server.
        device: Where they ran, such as ``cpu`` or ``cuda:0``.
    """

    losses: list[float] = field(default_factory=list, repr=False)
    mean_loss: float = float("nan")
    num_steps: int = 0
    elapsed_seconds: float = 0.0
    device: str = ""


def train(
    model: Module,
    data: tuple[Any, Any],
    *,
    loss: Module | Callable[..., Any],
    optimizer: Optimizer,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int | None = None,
    clip_grad_norm: float | None = None,
    progress: bool = True,
) -> TrainResult:
    """Trains a model in a loop on the server, with no message for each step.

    The model's ``forward`` is recorded once, and once more if the last batch is incomplete, and
    then runs on the server. It may use any tensor operation, shapes included, but must not depend
    on the values of tensors, and may change buffers in place only. The loop visits
    the samples in the order that a ``torch.utils.data.DataLoader`` would, and afterwards the
    model holds the trained weights. An interrupted run keeps the steps that it has taken.

    Args:
        model: The model.
        data: Inputs and targets: arrays or tensors, or tuples of such, with samples along the
            first dimension.
        loss: A loss module, or a function of outputs and targets that returns a scalar tensor.
        optimizer: An optimizer of the model's parameters.
        epochs: How many times to go over the data.
        batch_size: Samples per step; None for all.
        shuffle: Whether to visit the samples in a new random order in each epoch.
        drop_last: Whether to leave out an incomplete last batch.
        seed: Seeds the session's random numbers first.
        clip_grad_norm: Scales gradients down to this total 2-norm before each step.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ValueError: The data is empty or of unequal lengths, or `forward` can't be recorded.
        GradwireError: The server refused or failed.
    """
    inputs, targets = (_tensors(part) for part in data)
    session = session_of((*inputs, *targets), {})
    recipe = _record_recipe(
        session,
        model,
        loss,
        [
            ([tensor[:size] for tensor in inputs], [tensor[:size] for tensor in targets])
            for size in _batch_sizes([*inputs, *targets], batch_size, drop_last)
        ],
    )
    models = models_pb2_grpc.ModelServiceStub(session.channel)
    runs = runs_pb2_grpc.RunServiceStub(session.channel)
    created = session.call(
        models.CreateModel, models_pb2.CreateModelRequest(name=session.name, module=recipe.module)
    ).model
    try:
        request = runs_pb2.TrainRequest(
            name=created.name,
            inputs=[values_pb2.Value(handle=session.handle(tensor)) for tensor in inputs],
            targets=[values_pb2.Value(handle=session.handle(tensor)) for tensor in targets],
            loss=recipe.loss,
            optimizer=models_pb2.OptimizerSpec(handle=session.handle(optimizer)),
            epochs=epochs,
            batch_size=batch_size or 0,
            shuffle=shuffle,
            drop_last=drop_last,
            seed=seed,
            clip_grad_norm=clip_grad_norm,
        )
        return _follow(session.stream(runs.Train, request), epochs, progress)
    finally:
        session.call(models.DeleteModel, models_pb2.DeleteModelRequest(name=created.name))


def _tensors(part: Any) -> list[Tensor]:
    parts = part if isinstance(part, tuple | list) and _holds_tensors(part) else [part]
    return [as_tensor(value) for value in parts]


def _holds_tensors(parts: Sequence[Any]) -> bool:
    return bool(parts) and all(hasattr(part, "shape") for part in parts)


def _batch_sizes(tensors: list[Tensor], batch_size: int | None, drop_last: bool) -> list[int]:
    """Returns the size of a batch, and that of the last one if it is another."""
    lengths = sorted({len(tensor) for tensor in tensors})
    if len(lengths) != 1:
        raise ValueError(f"inputs and targets have different numbers of samples: {lengths}")
    size = lengths[0] if batch_size is None else min(batch_size, lengths[0])
    if size < 1:
        raise ValueError(f"there is nothing to train on: {lengths[0]} samples, {batch_size=}")
    rest = lengths[0] % size
    return [size] if drop_last or not rest else [size, rest]


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """Model and loss as data.

    Attributes:
        module: The model.
        loss: The loss.
        alive: What the two refer to by handle; to be kept until the server has decoded them.
    """

    module: models_pb2.ModuleSpec
    loss: models_pb2.LossSpec
    alive: list[Trace]


_Batch = tuple[list[Tensor], list[Tensor]]


def _record_recipe(session: Session, model: Module, loss: Any, batches: list[_Batch]) -> _Recipe:
    """Returns model and loss as data; functions written in Python are run to record them.

    Args:
        session: The session.
        model: The model.
        loss: The loss.
        batches: Inputs and targets, once for each size that batches have.

    Raises:
        ValueError: The functions do not do the same for batches of any size.
    """
    plain_model = isinstance(model, BuiltinModule)
    plain_loss = isinstance(loss, BuiltinModule)
    if plain_model and plain_loss:
        return _Recipe(
            module=models_pb2.ModuleSpec(handle=session.handle(model)),
            loss=models_pb2.LossSpec(handle=session.handle(loss)),
            alive=[],
        )
    with _without_effects(session, model):
        recorded = [_record(session, model, loss, batch) for batch in batches]
    forward, loss_program, alive = recorded[0]
    for other_forward, other_loss, _ in recorded[1:]:
        _require_same("the model's forward", forward, other_forward)
        _require_same("the loss", loss_program, other_loss)
    if plain_loss:
        loss_spec = models_pb2.LossSpec(handle=session.handle(loss))
    else:
        loss_spec = models_pb2.LossSpec(program=loss_program)
    spec = _module_spec(session, model)
    if not plain_model:
        spec.forward.CopyFrom(forward)
    return _Recipe(module=spec, loss=loss_spec, alive=alive)


def _record(
    session: Session, model: Module, loss: Any, batch: _Batch
) -> tuple[values_pb2.Program, values_pb2.Program, list[Trace]]:
    inputs, targets = batch
    returned: list[Any] = []

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        output = model(*inputs)
        returned[:] = output if isinstance(output, tuple) else [output]
        return tuple(_tensors_in(returned))

    forward, outputs, forward_trace = trace(session, run, inputs)
    # The loss gets the structure that the model returned; the program knows its tensors.
    loss_program, _, loss_trace = trace(
        session, lambda *_: loss(*returned, *targets), [*outputs, *targets]
    )
    return forward, loss_program, [forward_trace, loss_trace]


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


def _require_same(what: str, program: values_pb2.Program, other: values_pb2.Program) -> None:
    if program != other:
        raise ValueError(
            f"{what} does something else for the last batch, which is smaller: it is recorded, "
            "and len() and arithmetic on sizes give it plain numbers. Use x.shape[0] or x.numel() "
            "as they are in tensor operations, or leave the last batch out with drop_last=True."
        )


@contextmanager
def _without_effects(session: Session, model: Module) -> Iterator[None]:
    """Lets the model run once without moving random numbers or running statistics."""
    with no_grad():
        state = RemoteObject(session.record("gradwire.random_state", (), {}))
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            session.record("gradwire.set_random_state", (state,), {}, wanted=False)


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


def _follow(events: Iterator[runs_pb2.TrainResponse], epochs: int, progress: bool) -> TrainResult:
    """Follows a run to its end and shows how it goes."""
    result = TrainResult()
    with tqdm(disable=not progress, unit="step", dynamic_ncols=True) as bar:
        for event in events:
            match event.WhichOneof("event"):
                case "started":
                    result.device = event.started.device
                    bar.total = event.started.num_steps
                    bar.set_description(f"training on {result.device}")
                case "progress":
                    step = event.progress
                    result.losses.extend(step.losses)
                    bar.update(step.step - bar.n)
                    bar.set_postfix_str(
                        f"epoch {step.epoch}/{epochs}, loss {step.mean_loss:.4f}", refresh=False
                    )
                case "ended":
                    result.num_steps = event.ended.num_steps
                    result.mean_loss = event.ended.mean_loss
                    result.elapsed_seconds = event.ended.elapsed_seconds
    return result
