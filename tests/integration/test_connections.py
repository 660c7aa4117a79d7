"""Connecting, several sessions, threads, and what happens when the other side goes away."""

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import gradwire
from gradwire import nn
from gradwire.current import get_session, push_session
from gradwire.errors import (
    AuthenticationError,
    DeadlineError,
    GradwireError,
    ServerUnavailableError,
    SessionLostError,
)
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire.v1 import sessions_pb2
from tests.processes import ServerProcess, Stubs
from tests.proxy import Proxy


def worker_pid(address: str) -> int:
    with open_channel(address) as channel:
        (worker,) = Stubs(channel).workers()
        return worker.pid


def test_the_address_can_come_from_the_environment(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADWIRE_ADDRESS", address)
    with gradwire.connect() as session:
        assert session.address == address
        assert gradwire.ones(2).sum().item() == 2.0


def test_first_use_connects_by_itself(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADWIRE_ADDRESS", address)
    assert get_session() is None
    x = gradwire.ones(2)
    session = gradwire.current_session()
    try:
        assert session.address == address
        assert x._slot.session is session
    finally:
        session.close()


def test_a_session_says_what_it_is(session: Session, address: str) -> None:
    assert session.name.startswith("sessions/")
    assert session.device == "cpu"
    assert repr(session) == f"<gradwire.Session {session.name} on cpu at {address}>"
    assert gradwire.current_session() is session
    assert gradwire.cuda.is_available() is False


def test_a_wrong_address_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    started = time.monotonic()
    missing = f"unix:{tmp_path}/missing.sock"
    with pytest.raises((ServerUnavailableError, DeadlineError), match=r"missing\.sock") as caught:
        gradwire.connect(missing, timeout_seconds=1)

    assert time.monotonic() - started < 5
    assert isinstance(caught.value, ConnectionError | TimeoutError)
    assert get_session() is None


def test_a_server_that_was_never_there_is_given_up_sooner_than_one_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradwire.transport.server.FIRST_CONTACT_SECONDS", 0.2)

    with pytest.raises(ServerUnavailableError, match=r"missing\.sock"):
        gradwire.connect(f"unix:{tmp_path}/missing.sock")


def test_a_session_ends_quietly_where_its_server_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradwire.session.FAREWELL_SECONDS", 0.2)
    with ServerProcess(tmp_path) as server, gradwire.connect(server.address) as session:
        assert gradwire.ones(2).tolist() == [1.0, 1.0]
        server.kill()

    assert get_session() is not session


def test_a_server_that_never_answers_is_an_error_in_bounded_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises((ServerUnavailableError, DeadlineError)):
            gradwire.connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=1)

        assert time.monotonic() - started < 5


@pytest.mark.parametrize("timeout_seconds", [0, -1])
def test_a_timeout_must_be_positive(timeout_seconds: float, address: str) -> None:
    with pytest.raises(ValueError, match="timeout_seconds must be positive"):
        gradwire.connect(address, timeout_seconds=timeout_seconds)


def test_a_token_is_asked_for_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerProcess(tmp_path, token="open sesame") as server:
        with pytest.raises(AuthenticationError) as caught:
            gradwire.connect(server.address)
        assert isinstance(caught.value, PermissionError)
        with pytest.raises(AuthenticationError):
            gradwire.connect(server.address, token="open barley")
        with gradwire.connect(server.address, token="open sesame"):
            assert gradwire.ones(2).sum().item() == 2.0
        monkeypatch.setenv("GRADWIRE_TOKEN", "open sesame")
        with gradwire.connect(server.address):
            assert gradwire.ones(2).sum().item() == 2.0


def test_sessions_nest_and_operations_go_to_the_innermost(address: str) -> None:
    with gradwire.connect(address) as outer:
        x = gradwire.ones(1)
        with gradwire.connect(address) as inner:
            y = gradwire.ones(1)
            z = x + 1
        assert gradwire.current_session() is outer
        assert (x._slot.session, y._slot.session, z._slot.session) == (outer, inner, outer)
        assert z.item() == 2.0
        with pytest.raises(ValueError, match="is closed"):
            y.item()
    assert get_session() is None


def test_a_session_ends_on_the_server_with_its_block(address: str) -> None:
    with gradwire.connect(address) as session:
        name = session.name
    request = sessions_pb2.GetSessionRequest(name=name)
    with gradwire.connect(address) as other, pytest.raises(LookupError, match=name):
        other.call(Stubs(other.channel).sessions.GetSession, request)


def test_a_failure_that_nobody_saw_is_raised_at_the_end_of_the_block(address: str) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"), gradwire.connect(address):
        gradwire.ones(2, 3) @ gradwire.ones(2, 3)
    assert get_session() is None


def test_sessions_have_random_numbers_of_their_own(address: str) -> None:
    with gradwire.connect(address) as first, gradwire.connect(address) as second:
        drawn: dict[Session, list[float]] = {first: [], second: []}
        for session in drawn:
            with_current(session, lambda: gradwire.manual_seed(3))
        for _ in range(3):
            for session, values in drawn.items():
                values.append(with_current(session, lambda: gradwire.rand(1).item()))
        assert drawn[first] == drawn[second]
        assert len(set(drawn[first])) == 3


def with_current(session: Session, function: Any) -> Any:
    push_session(session)
    return function()


def test_values_of_two_sessions_do_not_mix(address: str) -> None:
    with gradwire.connect(address) as first:
        x = gradwire.ones(1)
        with gradwire.connect(address) as second:
            y = gradwire.ones(1)
            with pytest.raises(ValueError, match="don't move between sessions") as caught:
                x + y
            assert first.name in str(caught.value)
            assert second.name in str(caught.value)
            with pytest.raises(ValueError, match="don't move between sessions"):
                gradwire.cat([y, x])
            assert (y + gradwire.tensor(x.numpy())).item() == 2.0


def test_threads_record_in_one_session(session: Session) -> None:
    gradwire.manual_seed(0)
    x = gradwire.randn(4, 4)
    results: dict[int, list[float]] = {}

    def work(number: int) -> None:
        total = x * 0
        values = []
        for step in range(40):
            total = total + x * number
            if step % 10 == 9:
                values.append(total.sum().item())
        results[number] = values

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(6):
        total, expected = x * 0, []
        for step in range(40):
            total = total + x * number
            if step % 10 == 9:
                expected.append(total.sum().item())
        assert results[number] == expected


def test_a_worker_that_is_killed_loses_its_session_and_new_ones_work(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        session = gradwire.connect(server.address)
        x = gradwire.ones(2)
        session.flush()
        os.kill(worker_pid(server.address), signal.SIGKILL)

        with pytest.raises(SessionLostError, match=session.name) as caught:
            print(x + 1)
        assert isinstance(caught.value, ConnectionError)
        with pytest.raises(SessionLostError, match="can't be used any more"):
            print(x * 2)
        session.close()

        with gradwire.connect(server.address):
            assert gradwire.ones(2).sum().item() == 2.0


def test_a_server_that_stops_is_a_clear_error(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        # A worker may take long to become ready; the short time is for what comes after.
        gradwire.connect(server.address).close()
        session = gradwire.connect(server.address, timeout_seconds=3)
        x = gradwire.ones(2)
        session.flush()
        assert server.stop() == 0

        started = time.monotonic()
        with pytest.raises(GradwireError, match="server") as caught:
            print(x + 1)
        assert isinstance(caught.value, ConnectionError | TimeoutError)
        assert time.monotonic() - started < 10
        session.close()


def test_a_server_that_stops_answering_is_given_up_after_the_timeout(
    tmp_path: Path, address: str
) -> None:
    with Proxy(tmp_path / "proxy.sock", address) as proxy:
        session = gradwire.connect(proxy.address, timeout_seconds=1)
        x = gradwire.ones(2)
        session.flush()
        proxy.swallow()
        started = time.monotonic()
        with pytest.raises(DeadlineError, match="did not answer within 1 seconds") as caught:
            x.sum().item()

        assert 1 <= time.monotonic() - started < 5
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(DeadlineError, match="can't be used any more"):
            x.sum().item()
        session.close()


def test_an_interrupted_wait_leaves_the_session_usable(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = gradwire.randn(400, 400)
    session.flush()
    waiting = threading.Event()
    receive = session._stream.receive

    def receive_interruptibly(seq: int) -> Any:
        waiting.set()
        return receive(seq)

    def interrupt() -> None:
        assert waiting.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    y = x
    for _ in range(100):
        y = (y @ x) / y.norm()
    monkeypatch.setattr(session._stream, "receive", receive_interruptibly)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        y.sum().item()
    thread.join()

    assert gradwire.ones(3).sum().item() == 3.0
    assert y.shape == (400, 400)
    assert (x - x).abs().sum().item() == 0.0


@pytest.mark.usefixtures("session")
def test_layers_made_in_threads_are_described_once_each() -> None:
    layers: list[Any] = []

    def make() -> None:
        layers.append(nn.Linear(2, 2))
        list(layers[-1].parameters())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(len(list(layer.parameters())) == 2 for layer in layers)
