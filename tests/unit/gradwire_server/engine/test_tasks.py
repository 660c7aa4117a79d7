"""Tasks answer whatever happens, and never raise at the worker's loop."""

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from google.protobuf.message import Message

from gradwire.v1 import models_pb2
from gradwire.v1.apart import Piece
from gradwire_server.engine.figures import Timing
from gradwire_server.engine.tasks import HandlerTask, StreamTask, UnaryTask, WaitingTask
from gradwire_server.errors import GradwireError, Reason

LARGE = models_pb2.GetModelResponse(model=models_pb2.Model(summary="x" * 1000))


class Answers:
    def __init__(self) -> None:
        self.given: list[Any] = []

    def reply(
        self, call: int, payload: bytes, times: str = "", *, rest: Sequence[Piece] = ()
    ) -> None:
        self.given.append(b"".join((payload, *rest)))

    def event(self, call: int, payload: bytes) -> None:
        self.given.append(payload)

    def end(self, call: int, times: str = "") -> None:
        self.given.append("end")

    def fail(self, call: int, error: GradwireError, times: str = "") -> None:
        self.given.append(error.reason)


def unary(response: Message) -> Message:
    return response


def waiting(response: Message) -> Generator[None, None, Message]:
    yield
    return response


def streaming(response: Message) -> Generator[Sequence[Message], None, None]:
    yield [response]


KINDS = [(UnaryTask, unary), (WaitingTask, waiting), (StreamTask, streaming)]


def answers_to(kind: type[HandlerTask[Any]], handler: Any, *, limit_bytes: int) -> list[Any]:
    answers = Answers()
    task = kind(
        1,
        handler,
        answers,
        timing=Timing("GetModel"),
        limit_bytes=limit_bytes,
        watch=nullcontext,
    )
    while task.advance():
        pass
    return answers.given


@pytest.mark.parametrize(("kind", "handler"), KINDS)
def test_a_response_is_sent(kind: type[HandlerTask[Any]], handler: Any) -> None:
    given = answers_to(kind, lambda: handler(LARGE), limit_bytes=10_000)
    assert given[0] == LARGE.SerializeToString()
    assert given[1:] in ([], ["end"])


@pytest.mark.parametrize(("kind", "handler"), KINDS)
def test_a_response_that_is_too_large_is_a_failure(
    kind: type[HandlerTask[Any]], handler: Any
) -> None:
    given = answers_to(kind, lambda: handler(LARGE), limit_bytes=100)
    assert given == [Reason.LIMIT_EXCEEDED]


@pytest.mark.parametrize(("kind", "handler"), KINDS)
def test_an_error_that_nobody_expected_is_a_failure_too(
    kind: type[HandlerTask[Any]], handler: Any
) -> None:
    def failing() -> Any:
        raise ZeroDivisionError

    assert answers_to(kind, failing, limit_bytes=100) == [Reason.INTERNAL]
