import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from gradwire.v1 import models_pb2, sessions_pb2
from gradwire_server.server import Server
from tests.fakes.server import Client, details_of, info_of, running


async def test_a_session_is_created_found_listed_and_deleted(client: Client) -> None:
    request = sessions_pb2.CreateSessionRequest(display_name="mine", device="cpu")
    session = (await client.sessions.CreateSession(request)).session
    assert session.device == "cpu"
    assert session.worker == "worker-0"
    assert session.display_name == "mine"
    assert session.exact
    assert session.expire_time.seconds > session.create_time.seconds
    name = session.name
    found = await client.sessions.GetSession(sessions_pb2.GetSessionRequest(name=name))
    assert found.session.create_time == session.create_time
    listed = await client.sessions.ListSessions(sessions_pb2.ListSessionsRequest())
    assert [each.name for each in listed.sessions] == [name]
    await client.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=name))
    listed = await client.sessions.ListSessions(sessions_pb2.ListSessionsRequest())
    assert not listed.sessions


async def test_a_session_may_be_asked_for_speed_rather_than_exactness(client: Client) -> None:
    request = sessions_pb2.CreateSessionRequest(exact=False)
    name = (await client.sessions.CreateSession(request)).session.name
    found = await client.sessions.GetSession(sessions_pb2.GetSessionRequest(name=name))
    assert not found.session.exact


async def test_pages_list_every_session_once_oldest_first(client: Client) -> None:
    names = [await client.session() for _ in range(5)]
    listed: list[str] = []
    token = ""
    for _ in range(3):
        request = sessions_pb2.ListSessionsRequest(page_size=2, page_token=token)
        page = await client.sessions.ListSessions(request)
        listed += [each.name for each in page.sessions]
        token = page.next_page_token
    assert listed == names
    assert not token


@pytest.mark.parametrize(
    ("field", "request_message"),
    [
        ("page_token", sessions_pb2.ListSessionsRequest(page_token="made up")),
        ("page_token", sessions_pb2.ListSessionsRequest(page_token="YWZ0ZXI6eA==")),
        ("page_size", sessions_pb2.ListSessionsRequest(page_size=-1)),
    ],
)
async def test_a_malformed_page_is_refused_with_the_field_at_fault(
    client: Client, field: str, request_message: sessions_pb2.ListSessionsRequest
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.sessions.ListSessions(request_message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == [field]


async def test_creating_a_session_twice_with_one_request_id_makes_one(client: Client) -> None:
    names = await asyncio.gather(*(client.session(request_id="id") for _ in range(5)))
    assert len(set(names)) == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.session(request_id="id", display_name="another")
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert info_of(caught.value).reason == "REQUEST_CHANGED"


async def test_creating_a_model_without_a_session_makes_one(client: Client) -> None:
    request = models_pb2.CreateModelRequest(model_id="net", request_id="id")
    model = (await client.models.CreateModel(request)).model
    again = (await client.models.CreateModel(request)).model
    assert model.name == again.name
    session, _, rest = model.name.partition("/models/")
    assert rest == "net"
    found = await client.sessions.GetSession(sessions_pb2.GetSessionRequest(name=session))
    assert found.session.name == session


async def test_creating_a_model_that_fails_leaves_no_session(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.models.CreateModel(models_pb2.CreateModelRequest(model_id="bad"))
    assert info_of(caught.value).reason == "UNKNOWN_NAME"
    listed = await client.sessions.ListSessions(sessions_pb2.ListSessionsRequest())
    assert not listed.sessions


async def test_an_unknown_session_is_not_found_with_what_to_do(client: Client) -> None:
    for call, request in (
        (client.sessions.GetSession, sessions_pb2.GetSessionRequest(name="sessions/x")),
        (client.models.Step, models_pb2.StepRequest(name="sessions/x/models/m")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert info_of(caught.value).reason == "SESSION_NOT_FOUND"
        assert info_of(caught.value).metadata["session"] == "sessions/x"
        assert "CreateSession" in (caught.value.details() or "")


async def test_a_call_that_waits_fails_when_its_session_is_deleted(client: Client) -> None:
    name = await client.session()
    waiting = asyncio.ensure_future(
        client.models.Backward(models_pb2.BackwardRequest(name=name, handle=1))
    )
    await client.models.Step(models_pb2.StepRequest(name=name))
    await client.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=name))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert info_of(caught.value).reason == "SESSION_NOT_FOUND"


async def test_an_open_stream_ends_when_its_session_is_deleted(client: Client) -> None:
    name = await client.session()
    release = asyncio.Event()

    async def messages() -> AsyncIterator[sessions_pb2.ExecuteRequest]:
        yield sessions_pb2.ExecuteRequest(name=name, seq=1)
        await release.wait()

    stream = client.sessions.Execute(messages())
    assert (await stream.read()).seq == 1
    await client.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=name))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert info_of(caught.value).reason == "SESSION_NOT_FOUND"
    release.set()


async def test_an_idle_session_expires_also_with_an_open_stream(tmp_path: Path) -> None:
    async with running(tmp_path, session_idle_timeout_seconds=0.05) as (server, client):
        name = await client.session()
        release = asyncio.Event()

        async def messages() -> AsyncIterator[sessions_pb2.ExecuteRequest]:
            yield sessions_pb2.ExecuteRequest(name=name, seq=1)
            await release.wait()

        stream = client.sessions.Execute(messages())
        assert (await stream.read()).seq == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert info_of(caught.value).reason == "SESSION_NOT_FOUND"
        release.set()
        assert len(server.registry) == 0


async def test_too_many_sessions_are_refused_with_the_limit_and_when_to_retry(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, max_sessions=1) as (_, client):
        await client.session()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.session()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(caught.value).metadata == {"limit": "max_sessions", "value": "1"}
        assert details_of(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0


async def test_an_unknown_device_is_refused_with_those_there_are(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.session(device="cuda:7")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "it has cpu" in (caught.value.details() or "")


async def test_sessions_of_a_worker_that_dies_are_lost_and_new_ones_work(
    server: Server, client: Client
) -> None:
    name = await client.session()
    held = asyncio.ensure_future(
        client.models.Backward(models_pb2.BackwardRequest(name=name, handle=1))
    )
    await client.models.Step(models_pb2.StepRequest(name=name))
    dying = models_pb2.BackwardRequest(name=name, handle=2)
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: client.models.Backward(dying),
        lambda: held,
        lambda: client.models.Step(models_pb2.StepRequest(name=name)),
    )
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert info_of(caught.value).reason == "SESSION_LOST"
        assert info_of(caught.value).metadata["session"] == name
    again = await client.session()
    assert (await client.models.Step(models_pb2.StepRequest(name=again))).num_steps == 1
    await client.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=name))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.models.Step(models_pb2.StepRequest(name=name))
    assert info_of(caught.value).reason == "SESSION_NOT_FOUND"
    assert server.pool.workers[0].num_restarts == 1
