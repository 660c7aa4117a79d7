"""Bad input: the error names what was given, what was expected, and what to do."""

from collections.abc import Callable
from typing import Any

import pytest

from gradwire.v1 import models_pb2, sessions_pb2, values_pb2
from tests.safety.caller import Caller, RefusedError, calling, floats, handle, op, result, spec

pytestmark = pytest.mark.usefixtures("unharmed")

LINEAR = spec("torch.nn.Linear", 1, 1)
NAN, INFINITY = float("nan"), float("inf")


def field(number: int, content: bytes) -> bytes:
    """Returns a length-delimited field; see https://protobuf.dev/programming-guides/encoding."""
    length, size = b"", len(content)
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def nested(depth: int) -> bytes:
    """Returns a Value of so many lists in each other, which no library of protobuf writes."""
    value = values_pb2.Value(int_value=1).SerializeToString()
    for _ in range(depth):
        value = field(14, field(1, value))
    return value


@pytest.mark.parametrize(
    ("operations", "reason", "text"),
    [
        ([op("torch.nn.Liner", 1, 1)], "UNKNOWN_NAME", "did you mean torch.nn.Linear"),
        ([op("torch.relu")], "OPERATION_FAILED", "input"),
        ([op("torch.relu", "x")], "OPERATION_FAILED", "must be Tensor, not str"),
        ([op("torch.nn.Linear", 1)], "OPERATION_FAILED", "out_features"),
        ([op("torch.nn.Linear", 1, 2, features=3)], "OPERATION_FAILED", "features"),
        ([op("torch.nn.Linear", -1, 2)], "OPERATION_FAILED", "negative"),
        ([op("torch.ones", -1)], "OPERATION_FAILED", "negative"),
        ([op("torch.nn.Linear", 10**9, 10**9)], "LIMIT_EXCEEDED", "max_session_bytes"),
        ([op("torch.nn.Embedding", 2**62, 1)], "", ""),
        ([op("torch.nn.BatchNorm1d", 1, eps=NAN)], "OPERATION_FAILED", "eps is nan"),
        ([op("torch.nn.Dropout", NAN)], "OPERATION_FAILED", "nan"),
        ([op("torch.relu", result(0))], "INVALID_REQUEST", "not of an earlier operation"),
        ([op("torch.relu", result(7))], "INVALID_REQUEST", "result 7"),
        ([op("torch.relu", values_pb2.Value(input=0))], "INVALID_REQUEST", "of 0 inputs"),
        (
            [op("torch.relu", values_pb2.Value(member="w"))],
            "INVALID_REQUEST",
            "only in the forward",
        ),
        ([op("torch.relu", values_pb2.Value())], "INVALID_REQUEST", "no kind set"),
        ([op("torch.relu", handle(77))], "HANDLE_NOT_FOUND", "handle 77"),
        ([op("torch.relu", values_pb2.Value(dtype=99))], "INVALID_REQUEST", "99 is not a DataType"),  # type: ignore[arg-type]
        ([op("torch.relu", values_pb2.Value(device="cuda:9"))], "INVALID_REQUEST", "cuda:9"),
        ([op("torch.relu", floats([1.0], [2]))], "INVALID_REQUEST", "4 bytes, but 8 are needed"),
        ([op("torch.relu", floats([], [-1]))], "INVALID_REQUEST", "negative dimension"),
        ([op("torch.relu", floats([], [2**62, 2**62]))], "INVALID_REQUEST", "are needed"),
        ([op("torch.abs", floats([1.0]))] * 2001, "LIMIT_EXCEEDED", "max_program_operations"),
    ],
)
def test_of_programs(
    caller: Caller, operations: list[values_pb2.Operation], reason: str, text: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        caller.run(*operations)
    refused = caught.value
    assert refused.reason in ({reason} if reason else {"LIMIT_EXCEEDED", "OPERATION_FAILED"})
    assert text in refused.message


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": NAN}, "lr is nan; it must be a finite number"),
        ({"lr": INFINITY}, "lr is inf; it must be a finite number"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"params": 1}, "params"),
    ],
)
def test_of_optimizers(caller: Caller, options: dict[str, object], text: str) -> None:
    optimizer = models_pb2.OptimizerSpec(type="torch.optim.SGD")
    for name, given in options.items():
        optimizer.kwargs[name].CopyFrom(op("", given).args[0])
    with pytest.raises(RefusedError) as caught:
        caller.create(LINEAR, optimizer=optimizer)
    assert text in caught.value.message


@pytest.mark.parametrize("depth", [30, 1000, 100_000])
def test_of_values_that_are_nested_too_deeply(caller: Caller, depth: int) -> None:
    model = caller.create(spec("torch.nn.ReLU")).name
    request = field(1, model.encode()) + field(4, nested(depth))
    forward: Callable[..., Any] = caller.stubs.channel.unary_unary(
        "/gradwire.v1.ModelService/Forward"
    )
    with pytest.raises(RefusedError) as caught:
        calling(forward, request)
    assert caught.value.reason == ("OPERATION_FAILED" if depth == 30 else "INVALID_REQUEST")
    assert caught.value.message


def test_of_handles_that_are_something_else(caller: Caller) -> None:
    caller.run(op("torch.ones", 1), op("torch.nn.ReLU"), keep={0: 7, 1: 8})
    wrong = [
        (caller.stubs.models.Backward, models_pb2.BackwardRequest(name=caller.name, handle=8)),
        (
            caller.stubs.models.CreateModel,
            models_pb2.CreateModelRequest(name=caller.name, module=models_pb2.ModuleSpec(handle=7)),
        ),
        (
            caller.stubs.models.ComputeLoss,
            models_pb2.ComputeLossRequest(
                name=caller.name, loss=models_pb2.LossSpec(handle=7), outputs=[handle(7)]
            ),
        ),
    ]
    for method, request in wrong:
        with pytest.raises(RefusedError, match=r"handle \d is (a|not a)") as caught:
            calling(method, request)
        assert caught.value.reason == "INVALID_REQUEST"
    with pytest.raises(RefusedError, match="handle 7 is not a program"):
        caller.send(sessions_pb2.Command(run_program=sessions_pb2.RunProgram(program=7)))
    caller.run(op("torch.ones", 1))
    with pytest.raises(RefusedError, match=r"takes 0 inputs and got 1"):
        caller.send(
            sessions_pb2.Command(run_program=sessions_pb2.RunProgram(program=1, inputs=[7]))
        )
