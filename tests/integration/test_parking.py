"""Idle sessions are parked and come back with their next command; checkpoints expire."""

import resource
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire
from gradwire import nn, optim
from gradwire.transport.channel import open_channel
from gradwire.v1 import sessions_pb2, values_pb2
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from tests.fakes.server import info_of
from tests.processes import ServerProcess, Stubs

TIMEOUT_SECONDS = 60.0


def wait_until_parked(stubs: Stubs, name: str, **options: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        request = sessions_pb2.ListSessionsRequest()
        listed = stubs.sessions.ListSessions(request, **options).sessions
        if any(session.name == name and session.parked for session in listed):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} was not parked")


def begin() -> tuple[Any, ...]:
    gradwire.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
    return model, optimizer, scheduler


def go_on(model: Any, optimizer: Any, scheduler: Any) -> list[float]:
    losses = []
    for _ in range(3):
        inputs = gradwire.randn(8, 4)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def test_an_idle_session_comes_back_with_its_next_command(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, threads=1, session_idle_timeout_seconds=1) as server,
        open_channel(server.address) as channel,
    ):
        stubs = Stubs(channel)
        with gradwire.connect(server.address):
            undisturbed = begin()
            expected = [go_on(*undisturbed), go_on(*undisturbed)]
        with gradwire.connect(server.address) as session:
            disturbed = begin()
            losses = [go_on(*disturbed)]
            wait_until_parked(stubs, session.name)
            losses.append(go_on(*disturbed))
            assert losses == expected, server.log()
            wait_until_parked(stubs, session.name)
        listed = gradwire.checkpoints.list(address=server.address)
        assert listed == []  # the session was deleted while it was parked


def credentials(tokens: Path, tenant: str) -> dict[str, Any]:
    """Makes a token of a tenant; returns the options of calls that show it."""
    token = new_token()
    append_token(tokens, TokenEntry.of(token, tenant, Role.USER, None))
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def put(stubs: Stubs, name: str, seq: int, value: float, **options: Any) -> None:
    """Puts a number into a session as handle 1."""
    tensor = values_pb2.Tensor(
        dtype=values_pb2.DATA_TYPE_FLOAT64, shape=[], data=struct.pack("<d", value)
    )
    command = sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=1, tensor=tensor))
    request = sessions_pb2.ExecuteRequest(name=name, seq=seq, commands=[command])
    list(stubs.sessions.Execute(iter([request]), **options))


def number(stubs: Stubs, name: str, **options: Any) -> float:
    request = sessions_pb2.FetchValuesRequest(name=name, handles=[1])
    fetched = stubs.sessions.FetchValues(request, timeout=TIMEOUT_SECONDS, **options)
    (value,) = struct.unpack("<d", fetched.values[0].tensor.data)
    return float(value)


def refusal(stubs: Stubs, name: str, **options: Any) -> Any:
    """Returns why the number of a session is not to be had."""
    with pytest.raises(grpc.RpcError) as caught:
        number(stubs, name, **options)
    error: Any = caught.value
    return info_of(error)


def test_a_parked_session_keeps_its_tenant_and_its_place_among_messages(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    mine, theirs = credentials(tokens, "acme"), credentials(tokens, "other")
    with (
        ServerProcess(
            tmp_path,
            threads=1,
            tokens_file=tokens,
            session_idle_timeout_seconds=1,
            max_tenant_sessions=1,
        ) as server,
        open_channel(server.address) as channel,
    ):
        stubs = Stubs(channel)
        create, lists = sessions_pb2.CreateSessionRequest(), sessions_pb2.ListSessionsRequest()
        name = stubs.sessions.CreateSession(create, **mine).session.name
        put(stubs, name, 1, 4.0, **mine)
        wait_until_parked(stubs, name, **mine)

        assert list(stubs.sessions.ListSessions(lists, **theirs).sessions) == []
        assert refusal(stubs, name, **theirs).reason == "SESSION_NOT_FOUND"

        # It does not count among the tenant's sessions, until it comes back.
        other = stubs.sessions.CreateSession(create, **mine).session.name
        assert refusal(stubs, name, **mine).metadata["limit"] == "max_tenant_sessions"
        stubs.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=other), **mine)
        assert number(stubs, name, **mine) == 4.0
        (back,) = stubs.sessions.ListSessions(lists, **mine).sessions
        assert (back.name, back.tenant, back.parked) == (name, "acme", False)
        put(stubs, name, 2, 5.0, **mine)
        assert number(stubs, name, **mine) == 5.0


def test_a_session_that_the_storage_refuses_ends_and_says_why(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, threads=1, session_idle_timeout_seconds=1) as server,
        open_channel(server.address) as channel,
    ):
        stubs = Stubs(channel)
        create = sessions_pb2.CreateSessionRequest()
        name = stubs.sessions.CreateSession(create).session.name
        put(stubs, name, 1, 4.0)
        (worker,) = stubs.workers()
        before = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        # Nothing can be written any more, which fails as a full disk does.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (16, before[1]))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not stubs.sessions.ListSessions(sessions_pb2.ListSessionsRequest()).sessions:
                break
            time.sleep(0.05)
        with pytest.raises(grpc.RpcError) as caught:
            number(stubs, name)
        error: Any = caught.value
        assert info_of(error).reason == "SESSION_NOT_FOUND"
        assert "could not be kept" in error.details()
        assert "storage" in error.details()
        assert "idle session can't be parked" in server.log()
        assert list((tmp_path / "storage").glob("checkpoints/*/*.json")) == []

        # When there is room again, sessions are parked again.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)
        name = stubs.sessions.CreateSession(create).session.name
        put(stubs, name, 1, 4.0)
        wait_until_parked(stubs, name)
        assert number(stubs, name) == 4.0


def train(checkpoint: dict[str, float]) -> list[str]:
    """Trains for 4 steps; returns the names of the checkpoints there are in the end."""
    model = nn.Linear(3, 1)
    run = gradwire.train(
        model,
        (np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)),
        loss=nn.MSELoss(),
        optimizer=optim.SGD(model.parameters(), lr=0.1),
        epochs=2,
        batch_size=4,
        checkpoint=checkpoint,
    )
    return list(run.checkpoints)


def test_checkpoints_expire(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, threads=1, checkpoint_sweep_seconds=0.1) as server,
        gradwire.connect(server.address) as session,
    ):
        kept = session.checkpoint(value=gradwire.ones(3))
        session.checkpoint(ttl_seconds=0.5, value=gradwire.ones(3))
        assert train({"every_steps": 2, "ttl_hours": 0.5 / 3600})
        for name in train({"every_steps": 4, "ttl_hours": 1.0}):
            expires = gradwire.checkpoints.get(name).expire_time
            assert expires is not None
            assert 3500 < (expires - datetime.now(UTC)).total_seconds() <= 3600
            gradwire.checkpoints.delete(name)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        manifests = tmp_path / "storage" / "checkpoints"
        while len(list(manifests.glob("*/*.json"))) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert gradwire.checkpoints.list() == [kept]
        assert len(list(manifests.glob("*/*.json"))) == 1
