"""What programs are decoded into is shared where nothing of a session is in it."""

import gc

import pytest
import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine.decoding import KnownPrograms, Scope
from gradwire_server.engine.memory import Budget
from gradwire_server.engine.programs import Program
from gradwire_server.engine.registry import Registry, Subjects
from gradwire_server.engine.session import OWN_OPERATIONS

Value = values_pb2.Value
CPU = torch.device("cpu")
TENSOR = Value(
    tensor=values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_UINT8, shape=[1], data=b"\1"),
)


def scope(known: KnownPrograms) -> Scope:
    """Returns the scope of a session of its own."""
    registry = Registry(OWN_OPERATIONS, Subjects(None, None, Budget(1 << 30, list)), device=CPU)
    return Scope(registry, lambda handle, _: handle, CPU, known)


def decode(scope: Scope, *args: Value, name: str = "torch.neg") -> Program:
    message = values_pb2.Program(
        operations=[values_pb2.Operation(name=name, args=args)],
        outputs=[Value(result=0)],
        num_inputs=1,
    )
    return Program(message, scope, path="program", max_operations=10)


def test_sessions_share_what_equal_programs_are_decoded_into() -> None:
    known = KnownPrograms()
    first, second = (decode(scope(known), Value(input=0)) for _ in range(2))
    assert first is not second
    assert first._decoded is second._decoded
    assert decode(scope(KnownPrograms()), Value(input=0))._decoded is not first._decoded
    assert decode(scope(known), Value(int_value=1))._decoded is not first._decoded


@pytest.mark.parametrize(
    "argument",
    [
        TENSOR,
        Value(handle=7),
        Value(function="torch.relu"),
        Value(list=values_pb2.ValueList(values=[TENSOR])),
        Value(tuple=values_pb2.ValueList(values=[Value(input=0), TENSOR])),
        Value(dict=values_pb2.ValueMap(entries=[values_pb2.ValueEntry(key="a", value=TENSOR)])),
        Value(slice=values_pb2.SliceValue(stop=TENSOR)),
    ],
    ids=lambda value: str(value.WhichOneof("kind")),
)
def test_what_refers_to_values_or_has_some_is_each_sessions_own(argument: Value) -> None:
    known = KnownPrograms()
    first, second = (decode(scope(known), argument) for _ in range(2))
    assert first._decoded is not second._decoded


def test_a_variant_with_values_makes_the_whole_its_sessions_own() -> None:
    known = KnownPrograms()
    variant = values_pb2.Program(
        operations=[values_pb2.Operation(name="torch.neg", args=[TENSOR])], num_inputs=1
    )
    message = values_pb2.Program(
        operations=[values_pb2.Operation(name="torch.neg", args=[Value(input=0)])],
        variants=[values_pb2.ProgramVariant(size=3, program=variant)],
        num_inputs=1,
    )
    first, second = (
        Program(message, scope(known), path="program", max_operations=10) for _ in range(2)
    )
    assert first._decoded is not second._decoded


def test_the_same_program_uses_the_budget_of_each_session() -> None:
    known = KnownPrograms()
    roomy, narrow = scope(known), scope(known)
    narrow.registry.subjects.budget._limit_bytes = 1
    making = [decode(each, Value(int_value=8), name="torch.zeros") for each in (roomy, narrow)]
    assert making[0]._decoded is making[1]._decoded
    assert making[0].call(None).tolist() == [0.0] * 8
    assert roomy.registry.subjects.budget.estimate_bytes > 0
    with pytest.raises(Exception, match="max_session_bytes"):
        narrow.registry.subjects.budget.add(making[1].call(None), "program")


def test_nothing_is_kept_that_no_session_holds() -> None:
    known = KnownPrograms()
    program = decode(scope(known), Value(input=0))
    assert len(known) == 1
    del program
    gc.collect()
    assert len(known) == 0
