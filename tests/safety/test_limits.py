"""What a session may take: memory and time, whatever operation asks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gradwire.transport.channel import open_channel
from gradwire.v1 import models_pb2, sessions_pb2, values_pb2
from tests.processes import ServerProcess, Stubs
from tests.safety.caller import (
    Caller,
    RefusedError,
    calling,
    floats,
    handle,
    integers,
    op,
    result,
    spec,
)
from tests.safety.conftest import MAX_MESSAGE_BYTES, MAX_SESSION_BYTES, SmallServer

HUGE = 2**40
ONE = floats([1.0])
CONTIGUOUS = values_pb2.Value(constant="torch.contiguous_format")
MEGABYTE = values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_UINT8, shape=[1 << 20], data=bytes(1 << 20))
SLACK_BYTES = 96 * 1024 * 1024
"""What the process may need beside: Python, the allocator's leftovers, messages on their way."""

GROWING: dict[str, list[values_pb2.Operation]] = {
    "repeat": [op("torch.Tensor.repeat", ONE, HUGE)],
    "expand": [
        op("torch.broadcast_to", ONE, [HUGE]),
        op("torch.Tensor.contiguous", result(0)),
    ],
    "pad": [op("torch.nn.functional.pad", ONE, [HUGE // 4, 0])],
    "unfold": [
        op("torch.ones", 1, 1, 1000, 1000),
        op("torch.nn.functional.unfold", result(0), [500, 500]),
    ],
    "interpolate": [op("torch.nn.functional.interpolate", floats([1.0], [1, 1, 1]), HUGE // 64)],
    "one_hot": [op("torch.nn.functional.one_hot", integers([2**36]))],
    "bincount": [op("torch.bincount", integers([2**36]))],
    "eye": [op("torch.eye", 10**6)],
    "cdist": [op("torch.ones", 10**5, 2), op("torch.cdist", result(0), result(0))],
    "kron": [op("torch.ones", 10**3, 10**3), op("torch.Tensor.kron", result(0), result(0))],
    "outer": [op("torch.ones", 10**6), op("torch.outer", result(0), result(0))],
    "broadcast": [
        op("torch.ones", 10**6, 1),
        op("torch.ones", 10**6),
        op("torch.add", result(0), result(1)),
    ],
    "meshgrid": [
        op("torch.ones", 10**6),
        op("torch.meshgrid", [result(0), result(0)]),
        op("gradwire.getitem", result(1), 0),
        op("torch.clone", result(2), memory_format=CONTIGUOUS),
    ],
    "linspace": [op("torch.linspace", 0.0, 1.0, HUGE)],
    "arange": [op("torch.arange", 0.0, 1.0, 1e-12)],
    "combinations": [op("torch.ones", 10**5), op("torch.combinations", result(0), 2)],
    "cartesian_prod": [op("torch.ones", 10**5), op("torch.cartesian_prod", result(0), result(0))],
    "doubling": [
        op("torch.ones", 1024),
        *(op("torch.cat", [result(i), result(i)]) for i in range(60)),
    ],
    "tolist": [
        op("torch.zeros", 1),
        op("torch.broadcast_to", result(0), [10**9]),
        op("torch.Tensor.tolist", result(1)),
    ],
    "repeat_interleave": [op("torch.repeat_interleave", ONE, HUGE)],
    "to_dense": [
        op("torch.sparse_coo_tensor", integers([0, 0], [2, 1]), ONE, [2**20, 2**20]),
        op("torch.Tensor.to_dense", result(0)),
    ],
    "full_like": [
        op("torch.broadcast_to", ONE, [HUGE]),
        op("torch.full_like", result(0), 1.0),
    ],
    "new_zeros": [op("torch.Tensor.new_zeros", ONE, [HUGE])],
    "normal": [op("torch.normal", 0.0, 1.0, [HUGE])],
    "conv_transpose": [
        op("torch.ones", 1, 1, 2),
        op("torch.nn.functional.conv_transpose1d", result(0), result(0), dilation=HUGE),
    ],
    "fft": [op("torch.fft.fft", ONE, HUGE)],
    "vander": [op("torch.ones", 10**4), op("torch.vander", result(0), 10**7)],
    "histc": [op("torch.histc", ONE, 2**31)],
    "diag_embed": [op("torch.ones", 10**6), op("torch.diag_embed", result(0))],
    "linear": [op("torch.nn.Linear", 10**9, 10**9)],
    "embedding": [op("torch.nn.Embedding", 2**40, 4)],
    "lstm": [op("torch.nn.LSTM", 64, 10**5)],
    "copies of a layer": [
        op("torch.nn.TransformerEncoderLayer", 64, 4),
        op("torch.nn.TransformerEncoder", result(0), 10**6),
    ],
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", GROWING)
def test_what_would_take_too_much_is_refused_before_there_is_memory(
    small_server: SmallServer, caller: Caller, name: str
) -> None:
    before = small_server.peak_bytes()

    with pytest.raises(RefusedError) as caught:
        caller.run(*GROWING[name])

    refused = caught.value
    assert refused.reason in {"LIMIT_EXCEEDED", "OUT_OF_MEMORY", "OPERATION_FAILED"}, refused
    assert small_server.peak_bytes() - before < MAX_SESSION_BYTES + SLACK_BYTES
    assert caller.run(op("torch.ones", 2), fetch=[0])[0].tensor.shape == [2]


def hold_tensor(caller: Caller, number: int) -> None:
    caller.put(10 + number, MEGABYTE)


def hold_graph(caller: Caller, _: int) -> None:
    caller.run(op("torch.exp", handle(2)), op("torch.sin", result(0)), keep={1: 2})


def hold_program(caller: Caller, number: int) -> None:
    constant = op("torch.neg", values_pb2.Value(tensor=MEGABYTE))
    program = values_pb2.Program(operations=[constant])
    put = sessions_pb2.PutProgram(handle=10 + number, program=program)
    caller.send(sessions_pb2.Command(put_program=put))


def hold_modules(caller: Caller, number: int) -> None:
    handles = {index: 1000 * number + index + 10 for index in range(1000)}
    caller.run(*(op("torch.nn.Identity") for _ in handles), keep=handles)


def hold_model(caller: Caller, _: int) -> None:
    constant = op("torch.neg", values_pb2.Value(tensor=MEGABYTE))
    forward = values_pb2.Program(operations=[constant])
    caller.create(models_pb2.ModuleSpec(type="torch.nn.Module", forward=forward))


def hold_list(caller: Caller, number: int) -> None:
    zeros = op("torch.zeros", 10_000)
    caller.run(zeros, op("torch.Tensor.tolist", result(0)), keep={1: 10 + number})


def hold_forever(caller: Caller, hold: Callable[[Caller, int], None]) -> None:
    for number in range(100_000):
        hold(caller, number)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    "hold", [hold_tensor, hold_graph, hold_program, hold_modules, hold_model, hold_list]
)
def test_what_is_held_over_many_calls_ends_at_the_limit(
    small_server: SmallServer, caller: Caller, hold: Callable[[Caller, int], None]
) -> None:
    caller.run(op("torch.ones", 1 << 18, requires_grad=True), keep={0: 2})
    before = small_server.peak_bytes()

    with pytest.raises(RefusedError, match="max_session_bytes") as caught:
        hold_forever(caller, hold)

    assert caught.value.reason in {"LIMIT_EXCEEDED", "OUT_OF_MEMORY"}
    assert small_server.peak_bytes() - before < MAX_SESSION_BYTES + SLACK_BYTES


@pytest.mark.usefixtures("unharmed")
def test_a_value_that_no_message_can_carry_is_refused_before_it_is_copied(caller: Caller) -> None:
    caller.run(op("torch.broadcast_to", ONE, [10**9]), keep={0: 7})
    request = sessions_pb2.FetchValuesRequest(name=caller.name, handles=[7])
    with pytest.raises(RefusedError, match=r"4000000000 bytes.*max_message_bytes") as caught:
        calling(caller.stubs.sessions.FetchValues, request)
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert caught.value.metadata["limit_bytes"] == str(MAX_MESSAGE_BYTES)


ENDLESS: dict[str, list[values_pb2.Operation]] = {
    "a module of too many layers": [op("torch.nn.RNN", 1, 1, 2**31 - 1)],
    "a call that may stop at callbacks": [op("gradwire.begin", "torch.nn.RNN", 1, 1, 2**31 - 1)],
    "a stack of too many layers": [
        op("torch.nn.Transformer", 4, 2, num_encoder_layers=2**31 - 1, dim_feedforward=4)
    ],
    "many operations": [
        op("torch.ones", 1500, 1500),
        *(op("torch.mm", result(0), result(0)) for _ in range(1900)),
    ],
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", ENDLESS)
def test_what_would_take_too_long_is_ended_and_the_session_goes_on(
    small_server: SmallServer, caller: Caller, name: str
) -> None:
    before = small_server.num_threads()

    with pytest.raises(RefusedError) as caught:
        caller.run(*ENDLESS[name])

    while small_server.num_threads() > before:
        pass  # A thread that was ended is about to be gone; one that goes on ends the test.
    assert caught.value.reason in {"LIMIT_EXCEEDED", "OUT_OF_MEMORY"}, caught.value.message
    assert caller.run(op("torch.ones", 2), fetch=[0])[0].tensor.shape == [2]


@pytest.mark.usefixtures("unharmed")
def test_an_optimizer_that_would_step_for_ever_is_ended(caller: Caller) -> None:
    optimizer = models_pb2.OptimizerSpec(type="torch.optim.LBFGS")
    for name, number in (("max_iter", 10**9), ("max_eval", 10**9)):
        optimizer.kwargs[name].int_value = number
    for name in ("tolerance_grad", "tolerance_change"):
        optimizer.kwargs[name].float_value = -1.0
    model = caller.create(spec("torch.nn.Linear", 1, 1), optimizer=optimizer)
    closure = models_pb2.Closure(
        inputs=[floats([1.0], [1, 1])],
        targets=[floats([3.0], [1, 1])],
        loss=models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type="torch.nn.MSELoss")),
    )
    with pytest.raises(RefusedError, match="max_command_seconds") as caught:
        calling(caller.stubs.models.Step, models_pb2.StepRequest(name=model.name, closure=closure))
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert len(caller.forward(model.name, floats([1.0], [1, 1])).output.value.tensor.data) == 4


def worker_of(caller: Caller) -> str:
    request = sessions_pb2.GetSessionRequest(name=caller.name)
    return str(calling(caller.stubs.sessions.GetSession, request).session.worker)


def on_another_worker(other: Caller) -> Caller:
    """Returns a session on another worker than that of `other`, once there is one."""
    while True:
        found = Caller(other.stubs)
        if worker_of(found) != worker_of(other):
            return found
        found.close()


def test_a_kernel_that_does_not_come_back_ends_its_worker_and_no_more(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, workers=2, threads=1, max_command_seconds=2) as server,
        open_channel(server.address) as channel,
    ):
        stubs = Stubs(channel)
        first = Caller(stubs)
        second = on_another_worker(first)
        second.run(op("torch.ones", 1), keep={0: 5})
        endless = [
            op("torch.ones", 1, 1, 2000, 2000),
            op("torch.ones", 1, 1, 1999, 1999),
            op("torch.nn.functional.conv2d", result(0), result(1), None, 1, 2000),
        ]
        with pytest.raises(RefusedError) as caught:
            first.run(*endless)
        assert caught.value.reason == "SESSION_LOST"
        assert second.run(op("torch.neg", handle(5)), fetch=[0])[0].tensor.shape == [1]
        assert "a command does not end; the worker does" in server.log()
