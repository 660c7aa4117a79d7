import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.sessions.answers import NOT_CARRIED_OUT
from gradwire_server.sessions.once import OnceOnly
from gradwire_server.workers.frames import Frame, FrameKind


class Work:
    """Something to be carried out, and how often it was."""

    def __init__(self, outcome: Frame | GradwireError) -> None:
        self.outcome = outcome
        self.count = 0

    def start(self) -> Coroutine[Any, Any, Frame]:
        self.count += 1
        return self._finish()

    async def _finish(self) -> Frame:
        await asyncio.sleep(0)
        if isinstance(self.outcome, GradwireError):
            raise self.outcome
        return self.outcome


def reply(payload: bytes = b"") -> Frame:
    return Frame(kind=FrameKind.REPLY, payload=payload)


def failure(reason: Reason) -> Frame:
    status = GradwireError(reason, "why").to_status()
    return Frame(kind=FrameKind.FAILURE, payload=status.SerializeToString())


def raised(reason: Reason) -> GradwireError:
    return GradwireError(reason, "why")


@pytest.mark.parametrize("made", [failure, raised])
@pytest.mark.parametrize("reason", list(Reason))
async def test_only_answers_that_say_that_nothing_was_done_are_forgotten(
    reason: Reason, made: Callable[[Reason], Frame | GradwireError]
) -> None:
    work = Work(made(reason))
    once = OnceOnly()
    for _ in range(2):
        with contextlib.suppress(GradwireError):
            await once.run("id", "Step", b"", work.start)
    assert work.count == (2 if reason in NOT_CARRIED_OUT else 1)
    assert len(once) == (0 if reason in NOT_CARRIED_OUT else 1)


async def test_answers_are_bounded_by_their_number_and_the_least_used_go_first() -> None:
    once = OnceOnly(max_answers=2)
    work = Work(reply())
    await once.run("a", "Step", b"", work.start)
    await once.run("b", "Step", b"", work.start)
    await once.run("a", "Step", b"", work.start)
    await once.run("c", "Step", b"", work.start)
    assert work.count == 3
    await once.run("a", "Step", b"", work.start)
    assert work.count == 3
    await once.run("b", "Step", b"", work.start)
    assert work.count == 4


async def test_answers_are_bounded_by_their_bytes_but_the_last_is_kept() -> None:
    once = OnceOnly(max_bytes=10)
    work = Work(reply(bytes(100)))
    await once.run("a", "Step", b"", work.start)
    await once.run("b", "Step", b"", work.start)
    assert len(once) == 1
    await once.run("b", "Step", b"", work.start)
    assert work.count == 2


async def test_a_long_request_id_is_refused() -> None:
    with pytest.raises(GradwireError) as caught:
        await OnceOnly().run("x" * 129, "Step", b"", Work(reply()).start)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.fields[0][0] == "request_id"


async def test_work_that_is_given_up_by_all_before_it_is_done_is_cancelled_and_forgotten() -> None:
    async def forever() -> Frame:
        await asyncio.Event().wait()
        raise AssertionError

    once = OnceOnly()
    waiting = [asyncio.create_task(once.run("id", "Step", b"", forever)) for _ in range(2)]
    for _ in range(3):
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait((waiting[0],))
    assert len(once) == 1
    waiting[1].cancel()
    await asyncio.wait((waiting[1],))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(once) == 0
