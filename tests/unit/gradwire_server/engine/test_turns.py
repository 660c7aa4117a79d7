"""Order within a session, turns between sessions, and what a session does not see of others."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from google.rpc import error_details_pb2

from gradwire.v1 import models_pb2, runs_pb2, sessions_pb2, values_pb2
from gradwire.v1.apart import Piece
from gradwire_server.engine import engine
from gradwire_server.engine.engine import Engine
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage, StorageConfig

Value = values_pb2.Value
FIRST, SECOND = 1, 2


class Recorded:
    """Answers, in the order in which they were given."""

    def __init__(self) -> None:
        self.replies: dict[int, bytes] = {}
        self.events: dict[int, list[bytes]] = {}
        self.errors: dict[int, GradwireError] = {}
        self.ended: list[int] = []

    def reply(
        self, call: int, payload: bytes, times: str = "", *, rest: Sequence[Piece] = ()
    ) -> None:
        self.replies[call] = b"".join((payload, *rest))
        self.ended.append(call)

    def event(self, call: int, payload: bytes) -> None:
        self.events.setdefault(call, []).append(payload)

    def end(self, call: int, times: str = "") -> None:
        self.ended.append(call)

    def fail(self, call: int, error: GradwireError, times: str = "") -> None:
        self.errors[call] = error
        self.ended.append(call)


class Bench:
    """An engine with two sessions, and calls to it by number."""

    def __init__(self, **limits: Any) -> None:
        self.answers = Recorded()
        self.engine = Engine(
            device=torch.device("cpu"),
            limits=Limits(**limits),
            storage=Storage(StorageConfig(url="memory://")),
            answers=self.answers,
        )
        for session in (FIRST, SECOND):
            self.engine.open_session(session, f"sessions/{session}")
        self.seqs = {FIRST: 0, SECOND: 0}
        self.calls = 0

    def call(self, session: int, method: str, request: Any) -> int:
        self.calls += 1
        self.engine.call(self.calls, session, method, request.SerializeToString())
        return self.calls

    def send(self, session: int, *commands: sessions_pb2.Command, failure_seen_seq: int = 0) -> int:
        self.seqs[session] += 1
        request = sessions_pb2.ExecuteRequest(
            seq=self.seqs[session], failure_seen_seq=failure_seen_seq, commands=commands
        )
        return self.call(session, "Execute", request)

    def finish(self) -> None:
        while self.engine.busy:
            self.engine.turn()

    def executed(self, call: int) -> sessions_pb2.ExecuteResponse:
        return sessions_pb2.ExecuteResponse.FromString(self.answers.replies[call])

    def execute(self, session: int, *commands: sessions_pb2.Command) -> Any:
        call = self.send(session, *commands)
        self.finish()
        return self.executed(call)


def operation(name: str, *args: Value, **kwargs: Value) -> values_pb2.Operation:
    return values_pb2.Operation(name=name, args=args, kwargs=kwargs)


def put(handle: int, *operations: values_pb2.Operation, num_inputs: int = 0) -> Any:
    program = values_pb2.Program(num_inputs=num_inputs, operations=operations)
    return sessions_pb2.Command(put_program=sessions_pb2.PutProgram(handle=handle, program=program))


def run(program: int, **fields: Any) -> sessions_pb2.Command:
    return sessions_pb2.Command(run_program=sessions_pb2.RunProgram(program=program, **fields))


def integer(value: int) -> Value:
    return Value(int_value=value)


def result(index: int) -> Value:
    return Value(result=index)


def reason(response: sessions_pb2.ExecuteResponse) -> str:
    info = error_details_pb2.ErrorInfo()
    assert response.failure.details[0].Unpack(info)
    return str(info.reason)


DRAW = put(1, operation("torch.rand", integer(3)), operation("torch.Tensor.tolist", result(0)))
SEED = put(2, operation("torch.manual_seed", integer(5)))


def drawn(response: sessions_pb2.ExecuteResponse) -> list[float]:
    return [value.float_value for value in response.values[0].list.values]


def test_sessions_take_turns_command_by_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SHARED_TURN_SECONDS", 0.0)
    bench = Bench()
    for session in (FIRST, SECOND):
        bench.execute(session, DRAW)
    long = bench.send(FIRST, *[run(1) for _ in range(50)])
    short = bench.send(SECOND, run(1))
    bench.finish()
    assert bench.answers.ended[-2:] == [short, long]


def num_turns(bench: Bench) -> int:
    count = 0
    while bench.engine.busy:
        bench.engine.turn()
        count += 1
    return count


@pytest.mark.parametrize(("turn_seconds", "wanted"), [(60.0, 1), (0.0, 50)])
def test_who_is_alone_goes_on_until_its_time_is_up(
    monkeypatch: pytest.MonkeyPatch, turn_seconds: float, wanted: int
) -> None:
    bench = Bench()
    bench.execute(FIRST, DRAW)
    monkeypatch.setattr(engine, "TURN_SECONDS", turn_seconds)
    call = bench.send(FIRST, *[run(1, fetch=[1]) for _ in range(50)])
    assert num_turns(bench) == wanted
    assert len(bench.executed(call).values) == 50
    times = bench.engine.figures({})["commands"]["run_program"]
    assert sum(times["execute"]["counts"]) == 50, "commands are counted, not turns"


@pytest.mark.parametrize(("shared_turn_seconds", "wanted"), [(60.0, 11), (0.0, 20)])
def test_who_is_not_alone_goes_on_for_a_shorter_time(
    monkeypatch: pytest.MonkeyPatch, shared_turn_seconds: float, wanted: int
) -> None:
    assert engine.SHARED_TURN_SECONDS < engine.TURN_SECONDS
    bench = Bench()
    for session in (FIRST, SECOND):
        bench.execute(session, DRAW)
    monkeypatch.setattr(engine, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(engine, "SHARED_TURN_SECONDS", shared_turn_seconds)
    calls = [bench.send(session, *[run(1) for _ in range(10)]) for session in (FIRST, SECOND)]
    assert num_turns(bench) == wanted
    assert bench.answers.ended[-2:] == calls


def test_a_tenant_gets_its_share_however_many_sessions_another_floods() -> None:
    bench = Bench()
    flooding = range(10, 20)
    for session in flooding:
        bench.engine.open_session(session, f"sessions/{session}", "flooding")
        bench.seqs[session] = 0
    bench.engine.open_session(20, "sessions/20", "modest")
    bench.seqs[20] = 0
    for session in (*flooding, 20):
        bench.execute(session, DRAW)
    before = len(bench.answers.ended)
    flood = {bench.send(session, run(1)) for session in flooding for _ in range(10)}
    modest = [bench.send(20, run(1)) for _ in range(10)]
    bench.finish()
    ended = bench.answers.ended[before:]
    # One turn of a hundred sessions' is followed by one of the other tenant's.
    assert ended[: 2 * len(modest)][1::2] == modest
    assert set(ended[: 2 * len(modest)][::2]) < flood


def test_calls_of_one_session_are_answered_in_order() -> None:
    bench = Bench()
    bench.execute(FIRST, DRAW)
    before = len(bench.answers.ended)
    calls = [bench.send(FIRST, *[run(1)] * (3 - index)) for index in range(3)]
    calls.append(bench.call(FIRST, "ListModels", models_pb2.ListModelsRequest(name="sessions/1")))
    bench.finish()
    assert bench.answers.ended[before:] == calls


def test_random_numbers_of_sessions_do_not_mix() -> None:
    bench = Bench()
    found: dict[int, list[float]] = {FIRST: [], SECOND: []}
    for session in (FIRST, SECOND):
        bench.execute(session, DRAW, SEED, run(2))
    for _ in range(3):
        for session in (FIRST, SECOND):
            found[session] += drawn(bench.execute(session, run(1, fetch=[1])))
    torch.manual_seed(5)
    expected = [number for _ in range(3) for number in torch.rand(3).tolist()]
    assert found[FIRST] == found[SECOND] == expected


def test_new_sessions_draw_different_numbers() -> None:
    bench = Bench()
    first, second = (
        drawn(bench.execute(session, DRAW, run(1, fetch=[1]))) for session in (FIRST, SECOND)
    )
    assert first != second


def test_a_context_that_is_left_open_ends_with_its_program() -> None:
    bench = Bench()
    enter = put(
        1,
        operation("torch.set_grad_enabled", Value(bool_value=False)),
        operation("gradwire.enter", result(0)),
    )
    look = put(
        2,
        operation("torch.ones", integer(1), requires_grad=Value(bool_value=True)),
        operation("torch.Tensor.exp", result(0)),
        operation("torch.Tensor.requires_grad.__get__", result(1)),
    )
    look.put_program.program.operations[2].name = "torch.Tensor.requires_grad"
    bench.execute(FIRST, enter, run(1))
    for session in (FIRST, SECOND):
        response = bench.execute(session, look, run(2, fetch=[2]))
        assert response.values[0].bool_value, response


def test_after_a_failure_messages_are_skipped_until_it_was_seen() -> None:
    bench = Bench()
    bad = put(1, operation("torch.ones", integer(-1)))
    failed = bench.send(FIRST, bad, run(1))
    skipped = bench.send(FIRST, DRAW)
    seen = bench.send(FIRST, DRAW, run(1, fetch=[1]), failure_seen_seq=1)
    bench.finish()
    assert reason(bench.executed(failed)) == "OPERATION_FAILED"
    assert bench.executed(skipped).skipped
    assert len(drawn(bench.executed(seen))) == 3


def test_what_came_before_a_failing_operation_was_applied() -> None:
    bench = Bench()
    program = put(1, operation("torch.ones", integer(2)), operation("torch.ones", integer(-1)))
    response = bench.execute(FIRST, program, run(1, keep=[0, 1], keep_handles=[8, 9]))
    assert response.failure.code
    fetched = bench.call(
        FIRST, "FetchValues", sessions_pb2.FetchValuesRequest(name="sessions/1", handles=[8])
    )
    lost = bench.call(
        FIRST, "FetchValues", sessions_pb2.FetchValuesRequest(name="sessions/1", handles=[9])
    )
    bench.finish()
    assert fetched in bench.answers.replies
    assert bench.answers.errors[lost].reason is Reason.HANDLE_NOT_FOUND


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (operation("torch.relu", result(1)), "INVALID_REQUEST"),
        (operation("torch.relu", Value(input=0)), "INVALID_REQUEST"),
        (operation("torch.relu", Value()), "INVALID_REQUEST"),
        (operation("torch.reluu", integer(1)), "UNKNOWN_NAME"),
        (operation("os.system", Value(string_value="true")), "UNKNOWN_NAME"),
        (operation("torch.relu", Value(member="weight")), "INVALID_REQUEST"),
    ],
)
def test_malformed_programs_are_refused_by_field(
    wrong: values_pb2.Operation, expected: str
) -> None:
    response = Bench().execute(FIRST, put(1, wrong))
    assert reason(response) == expected
    assert "operations[0]" in response.failure.message


def test_a_program_that_is_too_long_is_refused() -> None:
    response = Bench(max_program_operations=1).execute(FIRST, DRAW)
    assert reason(response) == "LIMIT_EXCEEDED"


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_refused() -> None:
    tensor = values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[2], data=bytes(7))
    command = sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=1, tensor=tensor))
    response = Bench().execute(FIRST, command)
    assert reason(response) == "INVALID_REQUEST"
    assert "7 bytes" in response.failure.message


def test_what_a_session_may_not_hold_is_refused_and_the_session_goes_on() -> None:
    bench = Bench(max_session_bytes=1 << 20)
    layer = put(1, operation("torch.nn.Linear", integer(10**9), integer(10**9)))
    assert reason(bench.execute(FIRST, layer, run(1))) == "LIMIT_EXCEEDED"
    grown = put(
        2,
        operation("torch.ones", integer(1000)),
        operation("torch.Tensor.repeat", result(0), integer(1000)),
    )
    call = bench.send(
        FIRST, grown, run(2, keep=[1], keep_handles=[7]), failure_seen_seq=bench.seqs[FIRST]
    )
    bench.finish()
    assert reason(bench.executed(call)) == "LIMIT_EXCEEDED"
    call = bench.send(FIRST, DRAW, run(1), failure_seen_seq=bench.seqs[FIRST])
    bench.finish()
    assert not bench.executed(call).HasField("failure")


def train_request(bench: Bench, epochs: int) -> runs_pb2.TrainRequest:
    tensor = values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[4, 1], data=bytes(16))
    model = models_pb2.CreateModelRequest(
        name="sessions/1",
        model_id="m",
        module=models_pb2.ModuleSpec(type="torch.nn.Linear", args=[integer(1), integer(1)]),
        optimizer=models_pb2.OptimizerSpec(type="torch.optim.SGD"),
    )
    bench.call(FIRST, "CreateModel", model)
    bench.finish()
    loss = models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type="torch.nn.MSELoss"))
    return runs_pb2.TrainRequest(
        name="sessions/1/models/m",
        inputs=[Value(tensor=tensor)],
        targets=[Value(tensor=tensor)],
        loss=loss,
        epochs=epochs,
    )


def test_a_run_gives_way_to_commands_after_each_step() -> None:
    bench = Bench()
    training = bench.call(FIRST, "Train", train_request(bench, epochs=1000))
    bench.engine.turn()
    command = bench.send(FIRST, DRAW, run(1))
    other = bench.send(SECOND, DRAW, run(1))
    for _ in range(10):
        bench.engine.turn()
    assert {command, other} <= set(bench.answers.ended)
    assert training not in bench.answers.ended


def test_a_cancelled_run_ends_and_keeps_its_steps() -> None:
    bench = Bench()
    training = bench.call(FIRST, "Train", train_request(bench, epochs=1000))
    for _ in range(5):
        bench.engine.turn()
    bench.engine.cancel(training)
    assert bench.answers.errors[training].reason is Reason.CANCELLED
    described = bench.call(
        FIRST, "GetModel", models_pb2.GetModelRequest(name="sessions/1/models/m")
    )
    bench.finish()
    model = models_pb2.GetModelResponse.FromString(bench.answers.replies[described]).model
    assert 0 < model.num_steps < 1000


def test_calls_of_a_closed_session_fail_and_others_go_on() -> None:
    bench = Bench()
    training = bench.call(FIRST, "Train", train_request(bench, epochs=1000))
    waiting = bench.send(FIRST, DRAW)
    other = bench.send(SECOND, DRAW)
    bench.engine.turn()
    bench.engine.close_session(FIRST)
    bench.finish()
    assert {bench.answers.errors[call].reason for call in (training, waiting)} <= {
        Reason.SESSION_NOT_FOUND
    }
    assert other in bench.answers.replies
    late = bench.send(FIRST, DRAW)
    assert bench.answers.errors[late].reason is Reason.SESSION_NOT_FOUND
