import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gradwire.transport.stream import ExecuteStream
from gradwire.v1 import sessions_pb2


class TakingChannel:
    """A channel whose calls take all requests, in a thread as gRPC does, and answer none."""

    def __init__(self) -> None:
        self.taken: list[sessions_pb2.ExecuteRequest] = []
        self.ended = threading.Event()

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        return self._call

    def unary_unary(self, *_: Any, **__: Any) -> Any:
        return None

    def _call(self, requests: Iterator[sessions_pb2.ExecuteRequest], metadata: Any) -> Any:
        threading.Thread(target=self._take, args=(requests,), daemon=True).start()
        return _NoAnswers(self.ended)

    def _take(self, requests: Iterator[sessions_pb2.ExecuteRequest]) -> None:
        for request in requests:
            self.taken.append(request)


class _NoAnswers:
    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> None:
        self._ended.wait()
        raise StopIteration

    def cancel(self) -> None:
        self._ended.set()


@pytest.fixture
def channel() -> TakingChannel:
    return TakingChannel()


@pytest.fixture
def stream(channel: TakingChannel) -> Iterator[ExecuteStream]:
    stream = ExecuteStream(
        channel,  # type: ignore[arg-type]
        address="here",
        token=None,
        timeout_seconds=5,
        on_lost=lambda error: None,
    )
    yield stream
    stream.close()


@pytest.fixture
def greedy_thread() -> Iterator[None]:
    """This thread keeps the interpreter until it waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("greedy_thread")
def test_messages_leave_while_the_script_computes(
    channel: TakingChannel, stream: ExecuteStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradwire.transport.stream.LET_GO_SECONDS", 60.0)
    for seq in (1, 2, 3):
        stream.send(sessions_pb2.ExecuteRequest(seq=seq))
        stream.let_go()
        assert [request.seq for request in channel.taken] == list(range(1, seq + 1))


def test_a_script_does_not_wait_for_a_server_that_takes_nothing(
    channel: TakingChannel, stream: ExecuteStream
) -> None:
    channel._take = lambda requests: None  # type: ignore[method-assign]
    stream.send(sessions_pb2.ExecuteRequest(seq=1))
    stream.let_go()
    assert not channel.taken
