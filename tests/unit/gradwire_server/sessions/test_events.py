import asyncio

import pytest

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.sessions.events import EventLog
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import PendingStream

LOST = GradwireError(Reason.SESSION_LOST, "lost")
END = Frame(kind=FrameKind.END)


def event(payload: bytes) -> Frame:
    return Frame(kind=FrameKind.EVENT, payload=payload)


async def test_events_are_followed_as_they_come() -> None:
    stream = PendingStream(lambda: None)
    followers = EventLog(stream, LOST).follow()
    for payload in (b"1", b"2"):
        following = asyncio.ensure_future(anext(followers))
        await asyncio.sleep(0)
        stream.deliver(event(payload))
        assert (await following).payload == payload
    stream.deliver(END)
    assert [frame async for frame in followers] == [END]


async def test_a_late_follower_gets_all_events() -> None:
    stream = PendingStream(lambda: None)
    log = EventLog(stream, LOST)
    for frame in (event(b"1"), event(b"2"), END):
        stream.deliver(frame)
    await log.task
    assert [frame.payload async for frame in log.follow()] == [b"1", b"2", b""]


async def test_a_follower_that_is_too_slow_is_told_instead_of_skipping_events() -> None:
    stream = PendingStream(lambda: None)
    log = EventLog(stream, LOST, max_bytes=100)
    for frame in (event(bytes(60)), event(bytes(60)), END):
        stream.deliver(frame)
    await log.task
    with pytest.raises(GradwireError) as caught:
        await anext(log.follow())
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


async def test_the_call_is_cancelled_only_when_its_last_follower_has_gone() -> None:
    cancelled: list[bool] = []
    stream = PendingStream(lambda: cancelled.append(True))
    log = EventLog(stream, LOST)
    followers = [log.follow(), log.follow()]
    stream.deliver(event(b"1"))
    for follower in followers:
        await anext(follower)
    await followers[0].aclose()
    assert not cancelled
    await followers[1].aclose()
    assert cancelled
    stream.deliver(END)
    await log.task
