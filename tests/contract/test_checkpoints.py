"""The RPCs on checkpoints, through plain stubs and on a real server, since workers write them."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from gradwire.transport.channel import open_channel
from gradwire.v1 import checkpoints_pb2, sessions_pb2, values_pb2
from tests.fakes.server import info_of
from tests.processes import Stubs

ONE = values_pb2.Tensor(
    dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[1], data=bytes.fromhex("0000803f")
)


@pytest.fixture
def stubs(address: str) -> Iterator[Stubs]:
    with open_channel(address) as channel:
        yield Stubs(channel)


@pytest.fixture
def session(stubs: Stubs) -> Iterator[str]:
    """A session that holds a tensor as handle 7."""
    name = stubs.sessions.CreateSession(sessions_pb2.CreateSessionRequest()).session.name
    put = sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=7, tensor=ONE))
    list(stubs.sessions.Execute(iter([execute(name, 1, put)])))
    yield name
    stubs.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=name))


def execute(name: str, seq: int, *commands: sessions_pb2.Command) -> sessions_pb2.ExecuteRequest:
    return sessions_pb2.ExecuteRequest(name=name, seq=seq, commands=commands)


def create(stubs: Stubs, session: str, **fields: Any) -> checkpoints_pb2.Checkpoint:
    request = checkpoints_pb2.CreateCheckpointRequest(name=session, **fields)
    created: checkpoints_pb2.Checkpoint = stubs.checkpoints.CreateCheckpoint(request).checkpoint
    return created


def listed(stubs: Stubs, **fields: Any) -> list[str]:
    request = checkpoints_pb2.ListCheckpointsRequest(page_size=1, **fields)
    names = []
    while True:
        page = stubs.checkpoints.ListCheckpoints(request)
        names += [checkpoint.name for checkpoint in page.checkpoints]
        if not page.next_page_token:
            return names
        request.page_token = page.next_page_token


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), info_of(error).reason


def test_a_checkpoint_is_created_found_listed_restored_and_deleted(
    stubs: Stubs, session: str
) -> None:
    first = create(stubs, session, display_name="first", objects={"x": 7}, client_state=b"mine")
    second = create(stubs, session, ttl_seconds=3600)
    assert (first.display_name, dict(first.objects)) == ("first", {"x": 7})
    assert first.num_bytes > 0
    assert not first.HasField("expire_time")
    lifetime = second.expire_time.ToNanoseconds() - second.create_time.ToNanoseconds()
    assert lifetime == pytest.approx(3600e9, abs=60e9)

    get = checkpoints_pb2.GetCheckpointRequest(name=first.name)
    assert stubs.checkpoints.GetCheckpoint(get).checkpoint == first
    own = [name for name in listed(stubs) if name in (first.name, second.name)]
    assert own == [second.name, first.name]

    restore = checkpoints_pb2.RestoreCheckpointRequest(name=first.name)
    restored = stubs.checkpoints.RestoreCheckpoint(restore)
    assert restored.session.name != session
    assert (restored.client_state, list(restored.handles)) == (b"mine", [7])
    assert restored.next_handle == 8
    fetch = sessions_pb2.FetchValuesRequest(name=restored.session.name, handles=[7])
    assert stubs.sessions.FetchValues(fetch).values[0].tensor.data == ONE.data
    # Its stream is its own, and begins anew.
    assert [a.seq for a in stubs.sessions.Execute(iter([execute(restored.session.name, 1)]))] == [1]
    stubs.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=restored.session.name))

    for checkpoint in (first, second):
        stubs.checkpoints.DeleteCheckpoint(
            checkpoints_pb2.DeleteCheckpointRequest(name=checkpoint.name)
        )
        missing = checkpoints_pb2.GetCheckpointRequest(name=checkpoint.name)
        assert refusal(partial(stubs.checkpoints.GetCheckpoint, missing)) == (
            grpc.StatusCode.NOT_FOUND,
            "CHECKPOINT_NOT_FOUND",
        )
    assert not {first.name, second.name} & set(listed(stubs))


def test_what_is_asked_twice_with_one_request_id_is_done_once(stubs: Stubs, session: str) -> None:
    first = create(stubs, session, request_id="keep")
    assert create(stubs, session, request_id="keep") == first
    restore = checkpoints_pb2.RestoreCheckpointRequest(name=first.name, request_id="restore")
    restored = [stubs.checkpoints.RestoreCheckpoint(restore).session.name for _ in range(2)]
    assert restored[0] == restored[1]
    stubs.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=restored[0]))
    stubs.checkpoints.DeleteCheckpoint(checkpoints_pb2.DeleteCheckpointRequest(name=first.name))


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        ("GetCheckpoint", {"name": "checkpoints/none-1"}, "NOT_FOUND CHECKPOINT_NOT_FOUND"),
        ("DeleteCheckpoint", {"name": "checkpoints/none-1"}, "NOT_FOUND CHECKPOINT_NOT_FOUND"),
        ("RestoreCheckpoint", {"name": "checkpoints/none-1"}, "NOT_FOUND CHECKPOINT_NOT_FOUND"),
        ("GetCheckpoint", {"name": "checkpoints/../x-1"}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ("DeleteCheckpoint", {"name": ""}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ("RestoreCheckpoint", {"name": "sessions/x"}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ("ListCheckpoints", {"page_token": "?"}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ("ListCheckpoints", {"page_size": -1}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ("ListCheckpoints", {"run": "none"}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ("ListCheckpoints", {"run": "runs/none"}, "NOT_FOUND RUN_NOT_FOUND"),
        ("CreateCheckpoint", {"name": "sessions/none"}, "NOT_FOUND SESSION_NOT_FOUND"),
    ],
)
def test_what_is_not_there_or_malformed_is_refused(
    stubs: Stubs, method: str, request_: dict[str, Any], expected: str
) -> None:
    request = getattr(checkpoints_pb2, f"{method}Request")(**request_)
    code, reason = refusal(lambda: getattr(stubs.checkpoints, method)(request))
    assert f"{code.name} {reason}" == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"objects": {"y": 8}}, "NOT_FOUND HANDLE_NOT_FOUND"),
        ({"required_handles": [8]}, "NOT_FOUND HANDLE_NOT_FOUND"),
        ({"ttl_seconds": -1}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ({"ttl_seconds": float("nan")}, "INVALID_ARGUMENT INVALID_REQUEST"),
        ({"display_name": "x" * 129}, "INVALID_ARGUMENT INVALID_REQUEST"),
    ],
)
def test_a_checkpoint_that_can_not_be_as_asked_is_refused(
    stubs: Stubs, session: str, fields: dict[str, Any], expected: str
) -> None:
    before = listed(stubs)
    code, reason = refusal(lambda: create(stubs, session, **fields))
    assert f"{code.name} {reason}" == expected
    assert listed(stubs) == before


def test_a_checkpoint_that_was_changed_is_not_restored(
    stubs: Stubs, session: str, address: str
) -> None:
    checkpoint = create(stubs, session)
    series = checkpoint.name.removeprefix("checkpoints/").partition("-")[0]
    storage = Path(address.removeprefix("unix:")).parent / "storage"
    (tensors,) = (storage / "checkpoints" / series / "parts").glob("*.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)

    restore = checkpoints_pb2.RestoreCheckpointRequest(name=checkpoint.name)
    before = len(stubs.sessions.ListSessions(sessions_pb2.ListSessionsRequest()).sessions)
    assert refusal(lambda: stubs.checkpoints.RestoreCheckpoint(restore)) == (
        grpc.StatusCode.DATA_LOSS,
        "CHECKPOINT_CORRUPT",
    )
    assert len(stubs.sessions.ListSessions(sessions_pb2.ListSessionsRequest()).sessions) == before
    stubs.checkpoints.DeleteCheckpoint(
        checkpoints_pb2.DeleteCheckpointRequest(name=checkpoint.name)
    )
