"""Requests that nobody would send, at a server that must mind none of them.

Programs, modules, tensors, messages and unary requests are generated from the catalog and mutated.
Every answer is a result or an error of the catalog; the worker stays the same process, keeps to
its memory, and reaches for nothing outside of itself. `make fuzz` runs the same for longer.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gradwire.v1 import catalog, models_pb2, runs_pb2, sessions_pb2, values_pb2
from gradwire_server.errors import Reason
from tests.safety.caller import Caller, RefusedError, calling
from tests.safety.conftest import MAX_SESSION_BYTES, SmallServer

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

KINDS = models_pb2.TensorKind.keys()
NUM_EXAMPLES = int(os.environ.get("TESTS_SAFETY_EXAMPLES", "60"))
SLACK_BYTES = 160 * 1024 * 1024
FUZZ = settings(
    max_examples=NUM_EXAMPLES,
    derandomize="TESTS_SAFETY_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
REASONS = {str(reason) for reason in Reason} - {"INTERNAL", "SESSION_LOST", "NOT_READY"}

OPERATIONS = sorted({*catalog.FUNCTIONS, *catalog.METHODS, *catalog.PROPERTIES})
INTRINSICS = """
    gradwire.call gradwire.getitem gradwire.getattr gradwire.setattr gradwire.parameter
    gradwire.deepcopy gradwire.repr gradwire.describe gradwire.enter gradwire.exit
    gradwire.random_state gradwire.set_random_state gradwire.options gradwire.set_option
    gradwire.call_inside
""".split()
MAKERS = sorted(
    {*catalog.MODULES, *catalog.LOSSES, *catalog.OPTIMIZERS, *catalog.SCHEDULERS}
    | {*catalog.CLASSES, *catalog.CONTEXTS, *catalog.OBJECT_METHODS, *catalog.INITIALIZERS}
)
NAMES = st.one_of(
    st.sampled_from(OPERATIONS),
    st.sampled_from(MAKERS),
    st.sampled_from(INTRINSICS),
    st.text(max_size=12),
)
INTEGERS = st.one_of(
    st.integers(-3, 8),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63)]),
)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
WORDS = st.sampled_from(
    ["mean", "sum", "none", "reflect", "trunc", "cpu", "meta", "cuda:7", "weight", "__class__", ""]
)
SHAPES = st.lists(st.integers(0, 4), max_size=4)


@st.composite
def tensors(draw: Callable[..., Any]) -> values_pb2.Tensor:
    """Small tensors of any dtype and any bytes; some with a shape that is a lie."""
    shape = draw(SHAPES)
    dtype = draw(st.sampled_from([*values_pb2.DataType.values(), 99]))
    length = draw(st.one_of(st.none(), st.integers(0, 40)))
    if length is None:
        length = _size_of(dtype)
        for size in shape:
            length *= size
    fill = draw(st.sampled_from([0, 1, 2, 0x3F, 0x7F, 0x80, 0xFF]))
    if draw(st.integers(0, 15)) == 0:
        shape = [*shape, draw(INTEGERS)]
    return values_pb2.Tensor(
        dtype=dtype,
        shape=shape,
        data=bytes([fill]) * length,
        requires_grad=draw(st.booleans()),
    )


def _size_of(dtype: int) -> int:
    known = values_pb2.DataType.DESCRIPTOR.values_by_number.get(dtype)
    name = "" if known is None else known.name
    sizes = {"64": 8, "32": 4, "16": 2, "128": 16}
    if "COMPLEX64" in name:
        return 8
    return next((size for ending, size in sizes.items() if name.endswith(ending)), 1)


def _leaf(kind: str, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[values_pb2.Value]:
    return strategy.map(lambda given: values_pb2.Value(**{kind: given}))


LEAVES: st.SearchStrategy[values_pb2.Value] = st.one_of(
    _leaf("tensor", tensors()),
    _leaf("int_value", INTEGERS),
    _leaf("result", st.integers(0, 6)),
    _leaf("float_value", FLOATS),
    _leaf("bool_value", st.booleans()),
    _leaf("string_value", WORDS),
    _leaf("none", st.just(values_pb2.NoneValue())),
    _leaf("input", st.integers(0, 2)),
    _leaf("handle", st.integers(0, 6)),
    _leaf("member", WORDS),
    _leaf("dtype", st.sampled_from([*values_pb2.DataType.values(), 77])),
    _leaf("device", WORDS),
    _leaf("constant", st.sampled_from(["torch.strided", "torch.channels_last", "torch.load"])),
    _leaf("function", st.one_of(st.sampled_from(OPERATIONS), st.just("os.system"))),
    st.just(values_pb2.Value()),
)


def _containers(inner: st.SearchStrategy[values_pb2.Value]) -> st.SearchStrategy[values_pb2.Value]:
    lists = st.lists(inner, max_size=4).map(lambda each: values_pb2.ValueList(values=each))
    entries = st.lists(
        st.tuples(WORDS, inner).map(lambda e: values_pb2.ValueEntry(key=e[0], value=e[1])),
        max_size=3,
    )
    slices = st.tuples(inner, inner).map(
        lambda bounds: values_pb2.SliceValue(start=bounds[0], step=bounds[1])
    )
    return st.one_of(
        _leaf("list", lists),
        _leaf("tuple", lists),
        _leaf("dict", entries.map(lambda each: values_pb2.ValueMap(entries=each))),
        _leaf("slice", slices),
    )


VALUES = st.recursive(LEAVES, _containers, max_leaves=5)
KEYWORDS = st.sampled_from(
    "dim keepdim dtype device lr momentum mode size out weight bias reduction rounding_mode".split()
)
OPERATION = st.builds(
    values_pb2.Operation,
    name=NAMES,
    args=st.lists(VALUES, max_size=4),
    kwargs=st.dictionaries(KEYWORDS, VALUES, max_size=2),
)
PROGRAM = st.builds(
    values_pb2.Program,
    num_inputs=st.sampled_from([0, 1, 2, 2**32 - 1]),
    operations=st.lists(OPERATION, min_size=1, max_size=6),
    outputs=st.lists(LEAVES, max_size=2),
)
LOSS = st.one_of(
    PROGRAM.map(lambda program: models_pb2.LossSpec(program=program)),
    st.builds(
        lambda name, kwargs: models_pb2.LossSpec(
            catalog=models_pb2.CatalogLoss(type=name, kwargs=kwargs)
        ),
        st.one_of(st.sampled_from(sorted(catalog.LOSSES)), NAMES),
        st.dictionaries(KEYWORDS, VALUES, max_size=2),
    ),
    st.integers(0, 6).map(lambda handle: models_pb2.LossSpec(handle=handle)),
    st.just(models_pb2.LossSpec()),
)


def _module(children: st.SearchStrategy[models_pb2.ModuleSpec]) -> Any:
    child = st.builds(
        models_pb2.ChildModule,
        name=st.sampled_from(["0", "1", "hidden", "forward", "a.b", ""]),
        module=children,
    )
    tensor = st.builds(models_pb2.ModuleTensor, name=WORDS, buffer=st.booleans(), value=LEAVES)
    return st.builds(
        models_pb2.ModuleSpec,
        type=st.sampled_from(["torch.nn.Module", "torch.nn.Sequential", "torch.nn.ModuleList"]),
        children=st.lists(child, max_size=3),
        tensors=st.lists(tensor, max_size=2),
        forward=st.one_of(st.none(), PROGRAM),
        init=st.one_of(st.none(), PROGRAM),
    )


MODULE = st.recursive(
    st.builds(
        models_pb2.ModuleSpec,
        type=st.one_of(st.sampled_from(sorted(catalog.MODULES)), NAMES),
        args=st.lists(VALUES, max_size=3),
        kwargs=st.dictionaries(KEYWORDS, VALUES, max_size=2),
        handle=st.sampled_from([0, 0, 0, 1, 2**40]),
    ),
    _module,
    max_leaves=4,
)
OPTIMIZER = st.builds(
    models_pb2.OptimizerSpec,
    type=st.one_of(st.sampled_from(sorted(catalog.OPTIMIZERS)), NAMES),
    kwargs=st.dictionaries(KEYWORDS, VALUES, max_size=2),
)


@pytest.fixture(scope="module")
def watched(small_server: SmallServer) -> Any:
    """Holds for all examples together: the same worker, its memory, and nothing reached."""
    pid, peak = small_server.pid(), small_server.peak_bytes()
    reached = len(small_server.reached())
    yield small_server
    assert small_server.pid() == pid, small_server.process.log()[-2000:]
    assert small_server.reached()[reached:] == []
    assert small_server.peak_bytes() - peak < MAX_SESSION_BYTES + SLACK_BYTES


class Answered:
    """A caller that takes any answer but those that tell of a fault of the server."""

    def __init__(self, server: SmallServer) -> None:
        self.caller = Caller(server.stubs)

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Returns the response, or None if it was refused as it should be."""
        try:
            return call()
        except RefusedError as refused:
            if refused.reason not in REASONS:
                raise AssertionError(f"{refused.reason}: {refused.message}") from refused
            return None

    def send(self, method: Callable[..., Any], request: Message) -> Any:
        """Sends a unary request."""
        return self.attempt(lambda: calling(method, request))


@pytest.fixture(scope="module")
def answered(watched: SmallServer) -> Any:
    answered = Answered(watched)
    yield answered
    answered.caller.close()


@FUZZ
@given(program=PROGRAM, inputs=st.lists(st.integers(0, 6), max_size=2), fetch=st.booleans())
def test_programs(
    answered: Answered, program: values_pb2.Program, inputs: list[int], fetch: bool
) -> None:
    indices = list(range(len(program.operations)))
    answered.attempt(
        lambda: answered.caller.send(
            sessions_pb2.Command(put_program=sessions_pb2.PutProgram(handle=6, program=program)),
            sessions_pb2.Command(
                run_program=sessions_pb2.RunProgram(
                    program=6,
                    inputs=inputs,
                    keep=indices[:4],
                    keep_handles=indices[:4],
                    fetch=indices if fetch else [],
                )
            ),
        )
    )


@FUZZ
@given(operation=OPERATION, tensors_=st.lists(tensors(), min_size=1, max_size=3))
def test_single_operations_on_tensors(
    answered: Answered, operation: values_pb2.Operation, tensors_: list[values_pb2.Tensor]
) -> None:
    del operation.args[: len(tensors_)]
    arguments = [values_pb2.Value(tensor=tensor) for tensor in tensors_]
    called = values_pb2.Operation(name=operation.name, args=[*arguments, *operation.args])
    answered.attempt(lambda: answered.caller.run(called, fetch=[0]))


@FUZZ
@given(module=MODULE, optimizer=OPTIMIZER, inputs=st.lists(VALUES, max_size=2), loss=LOSS)
def test_models_and_verbs(
    answered: Answered,
    module: models_pb2.ModuleSpec,
    optimizer: models_pb2.OptimizerSpec,
    inputs: list[values_pb2.Value],
    loss: models_pb2.LossSpec,
) -> None:
    models, name = answered.caller.stubs.models, answered.caller.name
    for chosen in (optimizer, None):
        request = models_pb2.CreateModelRequest(name=name, module=module, optimizer=chosen)
        created = answered.send(models.CreateModel, request)
        if created is not None:
            break
    else:
        return
    model = created.model.name
    forward = answered.send(models.Forward, models_pb2.ForwardRequest(name=model, inputs=inputs))
    handle = 1 if forward is None else forward.output.handle
    computed = answered.send(
        models.ComputeLoss,
        models_pb2.ComputeLossRequest(
            name=name, loss=loss, outputs=[values_pb2.Value(handle=handle)], targets=inputs[:1]
        ),
    )
    handle = handle if computed is None else computed.loss.handle
    answered.send(models.Backward, models_pb2.BackwardRequest(name=name, handle=handle))
    answered.send(models.Step, models_pb2.StepRequest(name=model))
    closure = models_pb2.Closure(inputs=inputs, loss=loss, targets=inputs[:1])
    answered.send(models.Step, models_pb2.StepRequest(name=model, closure=closure))
    answered.send(models.FetchTensors, models_pb2.FetchTensorsRequest(name=model, kinds=KINDS))
    train = runs_pb2.TrainRequest(
        name=model, inputs=inputs, targets=inputs[:1], loss=loss, epochs=1, batch_size=1
    )
    runs = answered.caller.stubs.runs
    answered.attempt(
        lambda: calling(lambda r, timeout: list(runs.Train(r, timeout=timeout)), train)
    )
    answered.send(models.DeleteModel, models_pb2.DeleteModelRequest(name=model))


UNARY = [
    ("ModelService", "CreateModel"),
    ("ModelService", "Forward"),
    ("ModelService", "ComputeLoss"),
    ("ModelService", "SetTensors"),
    ("SessionService", "FetchValues"),
]


@FUZZ
@given(
    which=st.sampled_from(UNARY),
    program=PROGRAM,
    position=st.integers(0, 10_000),
    replacement=st.binary(max_size=6),
)
def test_mutated_bytes(
    answered: Answered,
    which: tuple[str, str],
    program: values_pb2.Program,
    position: int,
    replacement: bytes,
) -> None:
    service, method = which
    module = models_pb2.ModuleSpec(type="torch.nn.Module", forward=program, init=program)
    text = models_pb2.CreateModelRequest(name=answered.caller.name, module=module)
    encoded = text.SerializeToString()
    start = len(answered.caller.name) + 2
    cut = start + position % max(1, len(encoded) - start)
    mutated = encoded[:cut] + replacement + encoded[cut + len(replacement) :]
    call: Callable[..., Any] = answered.caller.stubs.channel.unary_unary(
        f"/gradwire.v1.{service}/{method}"
    )
    answered.attempt(lambda: calling(call, mutated))
