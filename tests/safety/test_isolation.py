"""What one session does, another does not see."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from gradwire.v1 import values_pb2
from tests.safety.caller import Caller, RefusedError, callers, floats, op, result
from tests.safety.conftest import MAX_SESSION_BYTES, SmallServer

pytestmark = pytest.mark.usefixtures("unharmed")


@pytest.fixture
def other(small_server: SmallServer) -> Iterator[Caller]:
    yield from callers(small_server.stubs)


LEFT_OPEN: dict[str, list[values_pb2.Operation]] = {
    "no_grad": [op("torch.no_grad"), op("gradwire.enter", result(0))],
    "set_grad_enabled": [op("torch.set_grad_enabled", False)],
    "inference_mode": [op("torch.inference_mode"), op("gradwire.enter", result(0))],
    "autocast": [
        op("torch.autocast", "cpu", dtype=values_pb2.Value(dtype=values_pb2.DATA_TYPE_BFLOAT16)),
        op("gradwire.enter", result(0)),
    ],
    "detect_anomaly": [op("torch.autograd.detect_anomaly"), op("gradwire.enter", result(0))],
    "set_detect_anomaly": [op("torch.autograd.set_detect_anomaly", True)],
    "manual_seed": [op("torch.manual_seed", 5)],
    "fork_rng": [op("torch.random.fork_rng"), op("gradwire.enter", result(0))],
    "a failure in a context": [
        op("torch.no_grad"),
        op("gradwire.enter", result(0)),
        op("torch.ones", -1),
    ],
}


def state(caller: Caller) -> list[object]:
    """Returns what a program sees of the modes of the process, and the next random number."""
    fetched = caller.run(
        op("torch.ones", 2, requires_grad=True),
        op("torch.Tensor.exp", result(0)),
        op("torch.Tensor.requires_grad", result(1)),
        op("torch.Tensor.is_inference", result(1)),
        op("torch.mm", floats([1.0], [1, 1]), floats([1.0], [1, 1])),
        op("torch.Tensor.dtype", result(4)),
        op("torch.tensor", 1.0),
        op("torch.Tensor.dtype", result(6)),
        op("gradwire.repr", floats([1 / 3])),
        fetch=[2, 3, 5, 7, 8],
    )
    return [each.SerializeToString() for each in fetched]


@pytest.mark.parametrize("name", LEFT_OPEN)
def test_modes_that_a_session_leaves_on_are_off_for_others_and_for_itself(
    caller: Caller, other: Caller, name: str
) -> None:
    seed = [op("torch.manual_seed", 11)]
    draw = [op("torch.rand", 4)]
    before = state(other)
    other.run(*seed)
    expected = other.run(*draw, fetch=[0])
    other.run(*seed)
    fails = pytest.raises(RefusedError) if "failure" in name else nullcontext()
    with fails:
        caller.run(*LEFT_OPEN[name])

    assert state(other) == before
    assert state(caller) == before
    assert other.run(*draw, fetch=[0]) == expected


def test_handles_of_one_session_mean_nothing_in_another(caller: Caller, other: Caller) -> None:
    caller.run(op("torch.full", [3], 7.0), keep={0: 5})
    with pytest.raises(RefusedError) as caught:
        other.run(op("torch.neg", values_pb2.Value(handle=5)))
    assert caught.value.reason == "HANDLE_NOT_FOUND"


def test_tensors_within_a_program_are_each_sessions_own(caller: Caller, other: Caller) -> None:
    counting = [op("torch.Tensor.add_", floats([1.0]), 1)]
    for expected in (floats([2.0]), floats([2.0])):
        for session in (caller, other):
            assert session.run(*counting, fetch=[0]) == [expected]


def test_the_same_program_counts_against_the_session_that_runs_it(
    caller: Caller, other: Caller
) -> None:
    making = [op("torch.zeros", MAX_SESSION_BYTES // 10)]
    caller.run(*making)
    other.run(*making, keep={0: 5})
    other.run(*making, keep={0: 6})
    # Twice four bytes of each tenth: a third one is too much, for this session alone.
    with pytest.raises(RefusedError) as caught:
        other.run(*making, keep={0: 7})
    assert caught.value.reason == "LIMIT_EXCEEDED"
    caller.run(*making, keep={0: 5})
