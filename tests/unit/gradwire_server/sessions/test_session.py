import asyncio

import pytest

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.sessions.session import Session
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.pool import Worker
from tests.fakes.link import FakeLink

CANCELLED = GradwireError(Reason.CANCELLED, "in time").to_status().SerializeToString()
WRONG = GradwireError(Reason.OPERATION_FAILED, "wrong").to_status().SerializeToString()


@pytest.fixture
async def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
async def session(link: FakeLink) -> Session:
    return make_session(link)


def make_session(link: FakeLink, **limits: int) -> Session:
    return Session(
        name="sessions/abc",
        number=7,
        worker=Worker("worker-0", "cpu"),
        link=link,
        owner="default",
        limits=Limits(**limits),
    )


async def settle() -> None:
    """Lets everything that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_call_is_forwarded_with_its_method_and_session(
    session: Session, link: FakeLink
) -> None:
    call = asyncio.create_task(session.call("Step", "", b"request"))
    await link.arrival(1)
    link.reply(0, b"response")
    assert (await call).payload == b"response"
    assert link.sent == [Frame(kind=FrameKind.CALL, session=7, method="Step", payload=b"request")]
    assert session.num_pending == 0


async def test_calls_are_sent_in_the_order_of_their_arrival(
    session: Session, link: FakeLink
) -> None:
    calls = [
        asyncio.create_task(session.call("Step", f"id-{i}" if i % 2 else "", bytes([i])))
        for i in range(10)
    ]
    await link.arrival(10)
    assert [frame.payload for frame in link.sent] == [bytes([i]) for i in range(10)]
    for index in range(10):
        link.reply(index)
    await asyncio.gather(*calls)


async def test_a_cancelled_call_is_cancelled_at_the_worker_and_leaves_nothing_behind(
    session: Session, link: FakeLink
) -> None:
    call = asyncio.create_task(session.call("Step", "", b""))
    await link.arrival(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert link.cancelled == link.sent
    assert session.num_pending == 0


async def test_a_resent_request_gets_the_first_answer_and_is_not_carried_out_again(
    session: Session, link: FakeLink
) -> None:
    first = asyncio.create_task(session.call("Step", "id", b"same"))
    second = asyncio.create_task(session.call("Step", "id", b"same"))
    await link.arrival(1)
    link.reply(0, b"answer")
    assert (await first).payload == (await second).payload == b"answer"
    assert (await session.call("Step", "id", b"same")).payload == b"answer"
    assert len(link.sent) == 1


@pytest.mark.parametrize(("method", "payload"), [("Step", b"other"), ("ZeroGrad", b"same")])
async def test_a_request_id_used_for_another_request_is_refused(
    session: Session, link: FakeLink, method: str, payload: bytes
) -> None:
    first = asyncio.create_task(session.call("Step", "id", b"same"))
    await link.arrival(1)
    with pytest.raises(GradwireError) as caught:
        await session.call(method, "id", payload)
    assert caught.value.reason is Reason.REQUEST_CHANGED
    link.reply(0)
    await first


async def test_a_failure_that_changed_something_is_answered_again(
    session: Session, link: FakeLink
) -> None:
    first = asyncio.create_task(session.call("Step", "id", b"same"))
    await link.arrival(1)
    link.fail(0, WRONG)
    assert (await first).kind is FrameKind.FAILURE
    assert (await session.call("Step", "id", b"same")).payload == WRONG


async def test_a_request_that_was_cancelled_in_time_runs_anew_when_resent(
    session: Session, link: FakeLink
) -> None:
    first = asyncio.create_task(session.call("Step", "id", b"same"))
    await link.arrival(1)
    first.cancel()
    await asyncio.wait((first,))
    await settle()
    assert link.cancelled == link.sent
    second = asyncio.create_task(session.call("Step", "id", b"same"))
    await settle()
    link.fail(0, CANCELLED)
    await link.arrival(2)
    link.reply(1, b"answer")
    assert (await second).payload == b"answer"
    assert session.num_pending == 0


async def test_a_request_that_was_cancelled_too_late_keeps_its_answer(
    session: Session, link: FakeLink
) -> None:
    first = asyncio.create_task(session.call("Step", "id", b"same"))
    await link.arrival(1)
    first.cancel()
    await asyncio.wait((first,))
    await settle()
    link.reply(0, b"done")
    assert (await session.call("Step", "id", b"same")).payload == b"done"
    assert len(link.sent) == 1


async def test_a_request_goes_on_while_somebody_still_waits_for_it(
    session: Session, link: FakeLink
) -> None:
    first = asyncio.create_task(session.call("Step", "id", b"same"))
    second = asyncio.create_task(session.call("Step", "id", b"same"))
    await link.arrival(1)
    first.cancel()
    await settle()
    assert not link.cancelled
    link.reply(0, b"answer")
    assert (await second).payload == b"answer"


async def test_a_worker_that_dies_fails_all_that_is_pending_with_session_lost(
    session: Session, link: FakeLink
) -> None:
    calls = [asyncio.create_task(session.call("Step", name, b"")) for name in ("", "id")]
    reply = session.execute(1, 0, b"message")
    await link.arrival(3)
    link.lose()
    for waiting in (*calls, session.answer(reply)):
        with pytest.raises(GradwireError) as caught:
            await waiting
        assert caught.value.reason is Reason.SESSION_LOST
        assert caught.value.metadata["session"] == "sessions/abc"
    await settle()
    assert session.num_pending == 0


async def test_too_many_waiting_messages_are_refused_with_the_limit_and_when_to_retry(
    link: FakeLink,
) -> None:
    session = make_session(link, max_queued_messages=2)
    calls = [asyncio.create_task(session.call("Step", "", b"")) for _ in range(2)]
    await link.arrival(2)
    with pytest.raises(GradwireError) as caught:
        await session.call("Step", "", b"")
    assert caught.value.reason is Reason.LIMIT_EXCEEDED
    assert caught.value.metadata["limit"] == "max_queued_messages"
    assert caught.value.retry_after_seconds
    link.reply(0)
    await settle()
    calls.append(asyncio.create_task(session.call("Step", "", b"")))
    await link.arrival(3)
    link.reply(1)
    link.reply(2)
    await asyncio.gather(*calls)


async def test_a_refused_request_may_be_sent_again_under_its_id(link: FakeLink) -> None:
    session = make_session(link, max_queued_messages=1)
    other = asyncio.create_task(session.call("Step", "", b""))
    await link.arrival(1)
    with pytest.raises(GradwireError):
        await session.call("Step", "id", b"")
    link.reply(0)
    await other
    again = asyncio.create_task(session.call("Step", "id", b""))
    await link.arrival(2)
    link.reply(1)
    await again


async def test_room_is_waited_for_until_an_answer_makes_some(link: FakeLink) -> None:
    session = make_session(link, max_queued_messages=1)
    await session.room()
    session.execute(1, 0, b"one")
    room = asyncio.create_task(session.room())
    await settle()
    assert not room.done()
    link.reply(0)
    await room


async def test_nothing_is_sent_once_the_session_has_ended(session: Session, link: FakeLink) -> None:
    told: list[GradwireError] = []
    session.watch_end(told.append)
    end = GradwireError(Reason.SESSION_NOT_FOUND, "deleted")
    session.end(end)
    assert told == [end]
    with pytest.raises(GradwireError, match="deleted"):
        await session.call("Step", "", b"")
    with pytest.raises(GradwireError, match="deleted"):
        await session.call("Step", "id", b"")
    with pytest.raises(GradwireError, match="deleted"):
        session.execute(1, 0, b"")
    with pytest.raises(GradwireError, match="deleted"):
        async with session.stream("Train", b""):
            raise AssertionError
    assert not link.sent


async def test_a_session_is_not_idle_while_something_is_pending(
    session: Session, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    call = asyncio.create_task(session.call("Step", "", b""))
    await link.arrival(1)
    now = 2000.0
    assert session.idle_seconds == 0
    link.reply(0)
    await call
    now = 2060.0
    assert session.idle_seconds == 60


async def test_a_session_that_moves_lets_calls_wait_until_it_has_a_worker(
    session: Session, link: FakeLink
) -> None:
    link.lose()
    session.leave_worker()
    call = asyncio.create_task(session.call("Step", "", b""))
    room = asyncio.create_task(session.room())
    await settle()
    assert not call.done()
    assert not room.done()
    other = FakeLink()
    session.attach(Worker("worker-1", "cpu"), other)
    await other.arrival(1)
    other.reply(0, b"answer")
    assert (await call).payload == b"answer"
    await room
    assert session.worker.id == "worker-1"


async def test_a_session_that_ends_while_it_moves_fails_what_waits(
    session: Session, link: FakeLink
) -> None:
    link.lose()
    session.leave_worker()
    call = asyncio.create_task(session.call("Step", "", b""))
    await settle()
    session.end(GradwireError(Reason.SESSION_LOST, "lost"))
    with pytest.raises(GradwireError, match="lost"):
        await call


async def test_only_calls_that_may_change_a_session_are_counted(
    session: Session, link: FakeLink
) -> None:
    for index, method in enumerate(("Step", "FetchTensors", "CreateCheckpoint", "Forward")):
        call = asyncio.create_task(session.call(method, "", b""))
        await link.arrival(index + 1)
        link.reply(index)
        await call
    async with session.stream("Train", b""):
        pass
    assert session.num_commands == 2
