import asyncio
import json
import os

import pytest

from gradwire_server.access.quotas import Quota, Quotas
from gradwire_server.errors import GradwireError, Reason, no_shared_memory
from gradwire_server.limits import Limits
from gradwire_server.sessions import regions as module
from gradwire_server.sessions.names import session_not_found
from gradwire_server.sessions.regions import Regions
from gradwire_server.sessions.session import Session
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.pool import Worker
from tests.fakes.link import FakeLink

SIZE = 4096


@pytest.fixture
async def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
async def session(link: FakeLink) -> Session:
    worker = Worker("worker-0", "cpu")
    return Session(
        name="sessions/abc", number=7, worker=worker, link=link, owner="acme", limits=Limits()
    )


@pytest.fixture
async def quotas() -> Quotas:
    return Quotas(Limits())


@pytest.fixture
async def regions(quotas: Quotas) -> Regions:
    regions = Regions(Limits(max_session_shared_bytes=4 * SIZE), quotas)
    regions.address = "\0somewhere"
    return regions


async def test_the_worker_gets_a_ticket_of_its_own(
    regions: Regions, session: Session, link: FakeLink
) -> None:
    region, ticket = await regions.create(session, SIZE)
    (opened,) = link.sent
    assert (opened.kind, opened.session) == (FrameKind.OPEN_REGION, 7)
    request = json.loads(opened.payload)
    assert (request["region"], request["socket"]) == (region.number, "\0somewhere")
    assert regions.claim(bytes.fromhex(request["ticket"])) == (region, False)
    assert regions.claim(ticket) == (region, True)
    assert regions.claim(ticket) is None
    assert os.fstat(region.descriptor).st_size == SIZE
    regions.release(region)


async def test_what_is_released_is_counted_no_more_and_the_worker_forgets_it(
    regions: Regions, session: Session, link: FakeLink, quotas: Quotas
) -> None:
    region, ticket = await regions.create(session, SIZE)
    assert quotas.used(Quota.SHARED_BYTES, "acme") == SIZE
    for _ in range(2):
        regions.release(region)
    assert quotas.used(Quota.SHARED_BYTES, "acme") == len(regions) == 0
    assert link.sent[1:] == [
        Frame(kind=FrameKind.CLOSE_REGION, session=7, payload=json.dumps(region.number).encode())
    ]
    assert regions.claim(ticket) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(region.descriptor)


async def test_memory_that_nobody_fetches_is_released(
    regions: Regions, session: Session, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.0)
    released = asyncio.Event()
    region, ticket = await regions.create(session, SIZE)
    region.on_release.append(released.set)
    await asyncio.wait_for(released.wait(), 10)
    assert regions.claim(ticket) is None
    assert len(regions) == 0


async def test_a_session_that_ends_takes_its_regions_along(
    regions: Regions, session: Session, link: FakeLink, quotas: Quotas
) -> None:
    await regions.create(session, SIZE)
    await regions.create(session, SIZE)
    session.end(session_not_found(session.name))
    assert quotas.used(Quota.SHARED_BYTES) == len(regions) == 0
    # The worker forgets all of the session with its end.
    assert {frame.kind for frame in link.sent} == {FrameKind.OPEN_REGION}


async def test_what_the_worker_can_not_map_is_refused_and_counted_no_more(
    regions: Regions, session: Session, link: FakeLink, quotas: Quotas
) -> None:
    link.answer_lifecycle = False
    making = asyncio.create_task(regions.create(session, SIZE))
    await link.arrival(1)
    link.fail(0, no_shared_memory().to_status().SerializeToString())
    with pytest.raises(GradwireError) as caught:
        await making
    assert caught.value.reason is Reason.NO_SHARED_MEMORY
    assert quotas.used(Quota.SHARED_BYTES) == 0


async def test_a_session_that_moves_has_its_regions_on_the_new_worker(
    regions: Regions, session: Session, link: FakeLink
) -> None:
    region, _ = await regions.create(session, SIZE)
    other = FakeLink()
    await regions.move(session, 8, other)
    (opened,) = other.sent
    assert (opened.kind, opened.session) == (FrameKind.OPEN_REGION, 8)
    assert json.loads(opened.payload)["region"] == region.number
    regions.release(region)


async def test_without_a_socket_no_memory_is_shared(regions: Regions, session: Session) -> None:
    regions.address = None
    with pytest.raises(GradwireError) as caught:
        await regions.create(session, SIZE)
    assert caught.value.reason is Reason.NO_SHARED_MEMORY
