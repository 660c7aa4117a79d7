"""Idle sessions are parked and come back with their next command; checkpoints expire."""

import time
from pathlib import Path
from typing import Any

import gradwire
from gradwire import nn, optim
from gradwire.transport.channel import open_channel
from gradwire.v1 import sessions_pb2
from tests.processes import ServerProcess, Stubs

TIMEOUT_SECONDS = 60.0


def wait_until_parked(stubs: Stubs, name: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        listed = stubs.sessions.ListSessions(sessions_pb2.ListSessionsRequest()).sessions
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


def test_checkpoints_expire(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, threads=1, checkpoint_sweep_seconds=0.1) as server,
        gradwire.connect(server.address) as session,
    ):
        kept = session.checkpoint(value=gradwire.ones(3))
        session.checkpoint(ttl_seconds=0.5, value=gradwire.ones(3))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        manifests = tmp_path / "storage" / "checkpoints"
        while len(list(manifests.glob("*/*.json"))) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert gradwire.checkpoints.list() == [kept]
        assert len(list(manifests.glob("*/*.json"))) == 1
