"""Arrays that were sent before: not sent again while they are unchanged, and never mixed up."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradwire
from gradwire.errors import GradwireError
from gradwire.session import Session
from gradwire.v1 import sessions_pb2
from tests.processes import ServerProcess, Stubs
from tests.proxy import Proxy

ARRAY_BYTES = 800_000


@pytest.fixture
def counting(tmp_path: Path, address: str) -> Iterator[tuple[Session, Proxy]]:
    """A session through a proxy that counts bytes; memory can't be shared through it."""
    with (
        Proxy(tmp_path / "proxy.sock", address) as proxy,
        gradwire.connect(proxy.address) as session,
    ):
        gradwire.ones(1).item()
        yield session, proxy


def sent_bytes(counting: tuple[Session, Proxy], source: Any) -> int:
    """Returns how many bytes it takes to send something, and holds that it arrives."""
    session, proxy = counting
    before = proxy.num_client_bytes
    tensor = gradwire.tensor(source)
    session.flush()
    after = proxy.num_client_bytes
    assert (tensor.numpy() == np.asarray(source)).all()
    return after - before


def held_bytes(session: Session) -> int:
    """Returns how many bytes of tensors a session holds."""
    request = sessions_pb2.ListSessionsRequest(with_activity=True)
    sessions = session.call(Stubs(session.channel).sessions.ListSessions, request).sessions
    return next(int(s.activity.num_bytes) for s in sessions if s.name == session.name)


@pytest.mark.parametrize("kind", ["array", "torch tensor"])
def test_the_same_object_is_sent_once(counting: tuple[Session, Proxy], kind: str) -> None:
    array = np.random.default_rng(0).random(ARRAY_BYTES // 8)
    source = array if kind == "array" else torch.from_numpy(array)
    assert sent_bytes(counting, source) > ARRAY_BYTES
    for _ in range(3):
        assert sent_bytes(counting, source) < ARRAY_BYTES // 100


def test_an_array_as_an_argument_is_sent_once(counting: tuple[Session, Proxy]) -> None:
    session, proxy = counting
    array = np.ones(ARRAY_BYTES // 8)
    total: Any = gradwire.zeros(ARRAY_BYTES // 8, dtype=gradwire.float64)
    for _ in range(10):
        total = total + array
    assert total.sum().item() == 10 * array.size
    assert proxy.num_client_bytes < 2 * ARRAY_BYTES
    session.flush()


@pytest.mark.parametrize("index", [0, -1, ARRAY_BYTES // 16])
def test_an_array_that_has_changed_is_sent_anew(
    counting: tuple[Session, Proxy], index: int
) -> None:
    array = np.zeros(ARRAY_BYTES // 8)
    sent_bytes(counting, array)
    array[index] = 1e-300
    assert sent_bytes(counting, array) > ARRAY_BYTES
    assert sent_bytes(counting, array) < ARRAY_BYTES // 100


def test_another_shape_or_type_of_the_same_object_is_another_array(
    counting: tuple[Session, Proxy],
) -> None:
    array = np.zeros(ARRAY_BYTES // 8)
    first = gradwire.tensor(array)
    array.shape = (2, ARRAY_BYTES // 16)
    second = gradwire.tensor(array)
    third = gradwire.tensor(array, dtype=gradwire.float32)
    assert (first.shape, second.shape) == ((ARRAY_BYTES // 8,), (2, ARRAY_BYTES // 16))
    assert third.dtype is gradwire.float32


def test_tensors_of_one_array_are_independent(session: Session) -> None:
    array = np.zeros((100, 1000), np.float32)
    first, second = gradwire.tensor(array), gradwire.tensor(array)
    first.add_(1)
    third = gradwire.tensor(array, requires_grad=True)
    second[0] = 7
    (third * 2).sum().backward()
    with gradwire.no_grad():
        third.sub_(3)
    assert (first.sum().item(), second.sum().item()) == (100_000, 7000)
    assert third.grad is not None
    assert (third.sum().item(), third.grad.sum().item()) == (-300_000, 200_000)
    assert gradwire.tensor(array).abs().sum().item() == 0


def test_what_the_program_has_no_more_the_session_does_not_hold(session: Session) -> None:
    before = held_bytes(session)
    for _ in range(5):
        gradwire.tensor(np.ones(ARRAY_BYTES)).sum().item()
    gc.collect()
    gradwire.ones(1).sum().item()
    session.flush()
    assert held_bytes(session) - before < ARRAY_BYTES


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    limit = 8 * 1024 * 1024
    with (
        ServerProcess(tmp_path, max_session_bytes=limit) as server,
        gradwire.connect(server.address) as session,
    ):
        arrays = [np.full(limit // 64, number, np.float32) for number in range(40)]
        for _ in range(2):
            for number, array in enumerate(arrays):
                assert gradwire.tensor(array).mean().item() == number
        assert held_bytes(session) <= limit // 4


def test_an_array_whose_upload_failed_is_sent_again(session: Session) -> None:
    array = np.ones(ARRAY_BYTES // 8)
    wrong = gradwire.ones(2) @ gradwire.ones(3)
    del wrong
    session.cut()
    with pytest.raises(GradwireError, match="size"):
        gradwire.tensor(array).sum().item()
    assert gradwire.tensor(array).sum().item() == array.size
