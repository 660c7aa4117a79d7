import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gradwire.v1 import sessions_pb2
from gradwire_server.access.identity import DEFAULT_TENANT, Caller, Role, enter_call
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.sessions.parking import Parking
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.storage import Storage, StorageConfig
from gradwire_server.workers.frames import Frame, FrameKind
from tests.fakes.pool import FakePool

T = TypeVar("T")

FAILURE = GradwireError(Reason.UNKNOWN_NAME, "no such class").to_status().SerializeToString()


def registry_over(pool: FakePool, **limits: float) -> SessionRegistry:
    return SessionRegistry(pool, Limits(**limits))  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_session_is_opened_on_its_worker_under_its_public_name() -> None:
    pool = FakePool("cpu")
    registry = registry_over(pool)
    session = await registry.create(display_name="mine")
    opened = pool.links[0].sent[0]
    assert opened.kind is FrameKind.OPEN_SESSION
    assert opened.session == session.number
    assert sessions_pb2.Session.FromString(opened.payload) == sessions_pb2.Session(
        name=session.name, tenant=DEFAULT_TENANT, exact=True
    )
    assert registry.get(session.name) is registry.get(f"{session.name}/models/m") is session


async def test_names_cannot_be_guessed() -> None:
    registry = registry_over(FakePool("cpu"))
    names = {(await registry.create()).name for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == len("sessions/") + 26 for name in names)


async def test_sessions_go_to_the_least_loaded_worker() -> None:
    pool = FakePool("cpu", "cpu")
    registry = registry_over(pool)
    sessions = [await registry.create() for _ in range(4)]
    assert [worker.num_sessions for worker in pool.workers] == [2, 2]
    for session in sessions:
        if session.worker is pool.workers[1]:
            await registry.delete(session.name)
    assert (await registry.create()).worker is pool.workers[1]


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
async def test_sessions_go_to_the_device_asked_for(device: str, expected: str) -> None:
    registry = registry_over(FakePool("cpu", "cuda:0", "cuda:1"))
    assert (await registry.create(device=device)).worker.device == expected


async def test_an_unknown_device_is_refused_with_those_there_are() -> None:
    registry = registry_over(FakePool("cpu", "cuda:0"))
    with pytest.raises(GradwireError, match="cpu, cuda:0") as caught:
        await registry.create(device="tpu")
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.fields[0][0] == "device"


async def test_creating_waits_until_a_worker_is_ready() -> None:
    pool = FakePool("cpu", ready=False)
    registry = registry_over(pool)
    creating = asyncio.create_task(registry.create())
    await settle()
    assert not creating.done()
    pool.make_ready(0)
    assert (await creating).worker is pool.workers[0]


async def test_creating_goes_on_elsewhere_if_the_worker_dies_meanwhile() -> None:
    pool = FakePool("cpu", "cpu")
    registry = registry_over(pool)
    pool.links[0].answer_lifecycle = False
    creating = asyncio.create_task(registry.create())
    await pool.links[0].arrival(1)
    pool.lose(0)
    session = await creating
    assert session.worker is pool.workers[1]
    assert len(registry) == 1


async def test_creating_that_is_given_up_while_waiting_leaves_nothing_behind() -> None:
    pool = FakePool("cpu", ready=False)
    registry = registry_over(pool, max_sessions=1)
    creating = asyncio.create_task(registry.create())
    await settle()
    creating.cancel()
    await asyncio.wait((creating,))
    pool.make_ready(0)
    await registry.create()


async def test_creating_that_is_given_up_while_opening_closes_the_session() -> None:
    pool = FakePool("cpu")
    registry = registry_over(pool)
    link = pool.links[0]
    link.answer_lifecycle = False
    creating = asyncio.create_task(registry.create())
    await link.arrival(1)
    creating.cancel()
    await asyncio.wait((creating,))
    await link.arrival(2)
    assert link.methods == ["OPEN_SESSION", "CLOSE_SESSION"]
    link.reply(1)
    await settle()
    assert pool.workers[0].num_sessions == 0
    assert len(registry) == 0


async def test_too_many_sessions_are_refused_with_the_limit() -> None:
    registry = registry_over(FakePool("cpu"), max_sessions=2)
    first = await registry.create()
    await registry.create()
    with pytest.raises(GradwireError) as caught:
        await registry.create()
    assert caught.value.reason is Reason.LIMIT_EXCEEDED
    assert caught.value.metadata == {"limit": "max_sessions", "value": "2"}
    await registry.delete(first.name)
    await registry.create()


async def test_sessions_that_wait_for_a_worker_count_towards_the_limit() -> None:
    pool = FakePool("cpu", ready=False)
    registry = registry_over(pool, max_sessions=1)
    creating = asyncio.create_task(registry.create())
    await settle()
    with pytest.raises(GradwireError, match="max_sessions"):
        await registry.create()
    pool.make_ready(0)
    await creating


async def test_a_long_display_name_is_refused() -> None:
    with pytest.raises(GradwireError) as caught:
        await registry_over(FakePool("cpu")).create(display_name="x" * 129)
    assert caught.value.fields[0][0] == "display_name"


@pytest.mark.parametrize("name", ["", "abc", "sessions/", "sessions/UPPER", "models/x", "sessions"])
async def test_a_malformed_name_is_refused_as_such(name: str) -> None:
    registry = registry_over(FakePool("cpu"))
    with pytest.raises(GradwireError) as caught:
        registry.get(name)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.fields[0][0] == "name"


async def test_a_deleted_session_is_not_found_and_its_memory_is_given_back() -> None:
    pool = FakePool("cpu")
    registry = registry_over(pool)
    session = await registry.create()
    await registry.delete(session.name)
    assert pool.links[0].methods == ["OPEN_SESSION", "CLOSE_SESSION"]
    assert pool.workers[0].num_sessions == 0
    with pytest.raises(GradwireError, match="CreateSession") as caught:
        registry.get(session.name)
    assert caught.value.reason is Reason.SESSION_NOT_FOUND
    with pytest.raises(GradwireError) as caught:
        await registry.delete(session.name)
    assert caught.value.reason is Reason.SESSION_NOT_FOUND


async def test_only_a_session_can_be_deleted_by_its_own_name() -> None:
    registry = registry_over(FakePool("cpu"))
    session = await registry.create()
    with pytest.raises(GradwireError) as caught:
        await registry.delete(f"{session.name}/models/m")
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert registry.get(session.name) is session


async def test_sessions_of_a_dead_worker_are_lost_until_they_are_deleted_and_others_go_on() -> None:
    pool = FakePool("cpu", "cpu")
    registry = registry_over(pool)
    lost, other = await registry.create(), await registry.create()
    pool.lose(0)
    with pytest.raises(GradwireError) as caught:
        registry.get(f"{lost.name}/models/m")
    assert caught.value.reason is Reason.SESSION_LOST
    assert caught.value.metadata["session"] == lost.name
    assert registry.get(other.name) is other
    pool.make_ready(0)
    with pytest.raises(GradwireError):
        registry.get(lost.name)
    await registry.delete(lost.name)
    with pytest.raises(GradwireError) as caught:
        registry.get(lost.name)
    assert caught.value.reason is Reason.SESSION_NOT_FOUND


async def test_names_of_lost_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradwire_server.sessions.registry.MAX_LOST_NAMES", 2)
    pool = FakePool("cpu")
    registry = registry_over(pool)
    names = [(await registry.create()).name for _ in range(3)]
    pool.lose(0)
    reasons = []
    for name in names:
        with pytest.raises(GradwireError) as caught:
            registry.get(name)
        reasons.append(caught.value.reason)
    assert reasons == [Reason.SESSION_NOT_FOUND, Reason.SESSION_LOST, Reason.SESSION_LOST]


async def test_idle_sessions_end_if_they_are_not_parked_and_busy_ones_do_not(
    tmp_path: Path,
) -> None:
    pool = FakePool("cpu")
    registry = registry_over(
        pool, session_idle_timeout_seconds=0.02, parked_session_ttl_seconds=0.0
    )
    parking = Parking(registry, Storage(StorageConfig(url=f"file://{tmp_path}")))
    idle, busy = await registry.create(), await registry.create()
    call = asyncio.create_task(busy.call("Step", "", b""))
    sweeping = asyncio.create_task(parking.keep_sweeping())
    async with asyncio.timeout(5):
        while len(registry) > 1:
            await asyncio.sleep(0.005)
    assert registry.get(busy.name) is busy
    with pytest.raises(GradwireError) as caught:
        registry.get(idle.name)
    assert caught.value.reason is Reason.SESSION_NOT_FOUND
    sweeping.cancel()
    pool.links[0].reply(2)
    await call


async def test_a_call_in_a_new_session_keeps_the_session_only_if_it_succeeds() -> None:
    pool = FakePool("cpu")
    registry = registry_over(pool)
    link = pool.links[0]
    calling = asyncio.create_task(registry.call_in_new("CreateModel", b""))
    await link.arrival(2)
    link.fail(1, FAILURE)
    assert (await calling).kind is FrameKind.FAILURE
    await settle()
    assert len(registry) == 0
    assert link.methods == ["OPEN_SESSION", "CreateModel", "CLOSE_SESSION"]
    calling = asyncio.create_task(registry.call_in_new("CreateModel", b""))
    await link.arrival(5)
    link.reply(4)
    await calling
    assert len(registry) == 1


async def test_a_call_in_a_new_session_that_is_given_up_closes_the_session() -> None:
    pool = FakePool("cpu")
    registry = registry_over(pool)
    calling = asyncio.create_task(registry.call_in_new("CreateModel", b""))
    await pool.links[0].arrival(2)
    calling.cancel()
    await asyncio.wait((calling,))
    await settle()
    assert pool.links[0].methods[-1] == "CLOSE_SESSION"
    assert len(registry) == 0


async def test_pages_go_from_the_oldest_on_and_stay_stable_under_deletion() -> None:
    registry = registry_over(FakePool("cpu"))
    sessions = [await registry.create() for _ in range(5)]
    page = registry.page(page_size=2, after=0)
    assert page == sessions[:2]
    await registry.delete(sessions[1].name)
    assert registry.page(page_size=2, after=page[-1].number) == sessions[2:4]


async def test_waiting_for_a_worker_ends_when_the_server_stops() -> None:
    registry = registry_over(FakePool("cpu", ready=False))
    creating = asyncio.create_task(registry.create())
    await settle()
    registry.placement.close(GradwireError(Reason.SHUTTING_DOWN, "stopping"))
    with pytest.raises(GradwireError, match="stopping"):
        await creating


async def as_caller(who: Caller, work: Coroutine[Any, Any, T]) -> T:
    """Does work in a call of somebody's."""

    async def call() -> T:
        enter_call(who)
        return await work

    return await asyncio.create_task(call())


async def reason_as(who: Caller, registry: SessionRegistry, name: str) -> Reason | None:
    """Returns why somebody cannot get a session; none if it can be had."""

    async def get() -> Reason | None:
        try:
            registry.get(name)
        except GradwireError as error:
            return error.reason
        return None

    return await as_caller(who, get())


async def test_a_session_is_there_for_its_tenant_and_for_admins_only() -> None:
    pool = FakePool("cpu")
    registry = registry_over(pool)
    acme, other = Caller(tenant="acme"), Caller(tenant="other")
    admin = Caller(tenant="other", role=Role.ADMIN)
    session = await as_caller(acme, registry.create())
    assert session.owner == "acme"
    assert await reason_as(acme, registry, session.name) is None
    assert await reason_as(admin, registry, session.name) is None
    assert await reason_as(other, registry, session.name) is Reason.SESSION_NOT_FOUND
    assert await reason_as(other, registry, f"{session.name}/models/m") is Reason.SESSION_NOT_FOUND
    pool.lose(0)
    assert await reason_as(acme, registry, session.name) is Reason.SESSION_LOST
    assert await reason_as(other, registry, session.name) is Reason.SESSION_NOT_FOUND


async def test_a_request_id_of_one_tenant_says_nothing_to_another() -> None:
    registry = registry_over(FakePool("cpu"))
    answers = iter((b"first", b"second"))

    async def start() -> Frame:
        return Frame(kind=FrameKind.REPLY, payload=next(answers))

    acme, other = Caller(tenant="acme"), Caller(tenant="other")
    for who, expected in ((acme, b"first"), (other, b"second"), (acme, b"first")):
        frame = await as_caller(who, registry.once("the same", "CreateSession", b"", start))
        assert frame.payload == expected
