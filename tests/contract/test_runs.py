"""Runs through plain stubs: events, who may leave, what is there after a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gradwire.v1 import runs_pb2, sessions_pb2
from gradwire_server.server import Server
from tests.fakes.server import Client, info_of, running
from tests.fakes.worker import Handle

TIMEOUT_SECONDS = 10.0


async def train(client: Client, **fields: Any) -> Any:
    """Begins a run in a new session and returns the call."""
    return client.runs.Train(runs_pb2.TrainRequest(name=await client.session(), **fields))


async def name_of(call: Any) -> str:
    """Returns the name of a run, which its first event tells; reads until it has begun."""
    created = (await call.read()).event
    assert (await call.read()).event.HasField("started")
    return str(created.created.name)


async def get(client: Client, name: str) -> runs_pb2.Run:
    response = await client.runs.GetRun(runs_pb2.GetRunRequest(name=name))
    run: runs_pb2.Run = response.run
    return run


async def watch(client: Client, name: str, from_event: int = 0) -> list[runs_pb2.RunEvent]:
    request = runs_pb2.WatchRunRequest(name=name, from_event=from_event)
    call = client.runs.WatchRun(request, timeout=TIMEOUT_SECONDS)
    return [response.event async for response in call]


async def read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def state_of(client: Client, name: str, *states: "runs_pb2.RunState") -> runs_pb2.Run:
    """Waits until a run is in one of some states."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (run := await get(client, name)).state not in states:
            await asyncio.sleep(0.01)
    return run


async def test_a_run_reports_its_events_by_number_and_ends(client: Client) -> None:
    call = await train(client, epochs=100, display_name="mine")
    events = [response.event async for response in call]

    assert [event.number for event in events] == list(range(1, 104))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["created", "started", *["progress"] * 100, "ended"]
    run = await get(client, events[0].created.name)
    assert (run.state, run.step, run.num_steps) == (runs_pb2.RUN_STATE_SUCCEEDED, 100, 100)
    assert (run.display_name, run.last_event) == ("mine", 103)
    assert run.create_time.seconds <= run.end_time.seconds


async def test_a_run_asked_for_again_is_followed_from_its_first_event(client: Client) -> None:
    request = runs_pb2.TrainRequest(
        name=await client.session(), epochs=3, request_id="id", batch_size=Handle.HOLD
    )
    calls = [client.runs.Train(request) for _ in range(2)]
    names = [await name_of(call) for call in calls]
    assert names[0] == names[1]
    request.epochs = 4
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.runs.Train(request).read()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert info_of(caught.value).reason == "REQUEST_CHANGED"
    await client.runs.CancelRun(runs_pb2.CancelRunRequest(name=names[0]))


async def test_a_refused_run_leaves_nothing_behind(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (await train(client, epochs=0)).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not (await client.runs.ListRuns(runs_pb2.ListRunsRequest())).runs


async def test_a_run_goes_on_when_its_caller_has_gone(client: Client) -> None:
    call = await train(client, epochs=2, batch_size=Handle.HOLD)
    name = await name_of(call)
    call.cancel()
    run = await get(client, name)
    assert run.state == runs_pb2.RUN_STATE_RUNNING
    follower = client.runs.WatchRun(runs_pb2.WatchRunRequest(name=name, from_event=3))
    assert [(await follower.read()).event.progress.step for _ in range(2)] == [1, 2]
    await client.runs.CancelRun(runs_pb2.CancelRunRequest(name=name))
    assert (await follower.read()).event.ended.state == runs_pb2.RUN_STATE_CANCELLED
    assert await follower.read() is grpc.aio.EOF


async def test_a_run_that_is_bound_to_its_caller_ends_with_it(client: Client) -> None:
    call = await train(client, epochs=2, batch_size=Handle.HOLD, cancel_on_disconnect=True)
    name = await name_of(call)
    call.cancel()
    await state_of(client, name, runs_pb2.RUN_STATE_CANCELLED)


async def test_a_session_that_is_left_to_its_runs_ends_with_them(
    client: Client, server: Server
) -> None:
    session = await client.session()
    call = client.runs.Train(runs_pb2.TrainRequest(name=session, epochs=2, batch_size=Handle.HOLD))
    name = await name_of(call)
    await client.sessions.DeleteSession(
        sessions_pb2.DeleteSessionRequest(name=session, keep_runs=True)
    )
    assert (await get(client, name)).state == runs_pb2.RUN_STATE_RUNNING
    await client.runs.CancelRun(runs_pb2.CancelRunRequest(name=name))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(server.registry):
            await asyncio.sleep(0.01)


async def test_a_run_ends_with_its_session_if_that_is_deleted(client: Client) -> None:
    session = await client.session()
    call = client.runs.Train(runs_pb2.TrainRequest(name=session, epochs=2, batch_size=Handle.HOLD))
    name = await name_of(call)
    await client.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=session))
    run = await state_of(client, name, runs_pb2.RUN_STATE_CANCELLED)
    assert run.reason == "SESSION_NOT_FOUND"


async def test_a_failed_run_tells_why_in_its_last_event_and_to_its_caller(client: Client) -> None:
    call = await train(client, epochs=1, batch_size=Handle.FAIL)
    name = await name_of(call)
    assert (await call.read()).event.HasField("progress")
    ended = (await call.read()).event.ended
    assert ended.state == runs_pb2.RUN_STATE_FAILED
    assert ended.failure.message == "as asked"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert info_of(caught.value).reason == "OPERATION_FAILED"
    assert (await watch(client, name))[-1].ended == ended


async def test_a_run_without_checkpoints_ends_with_its_worker(client: Client) -> None:
    call = await train(client, epochs=1, batch_size=Handle.DIE)
    name = await name_of(call)
    run = await state_of(client, name, runs_pb2.RUN_STATE_FAILED)
    assert run.reason == "RUN_LOST"
    assert "kept no checkpoints" in (await watch(client, name))[-1].ended.failure.message


async def test_a_paused_run_rests_and_can_be_cancelled(client: Client) -> None:
    call = await train(client, epochs=1, batch_size=Handle.HOLD)
    name = await name_of(call)
    await client.runs.PauseRun(runs_pb2.PauseRunRequest(name=name))
    await state_of(client, name, runs_pb2.RUN_STATE_PAUSED)
    await client.runs.CancelRun(runs_pb2.CancelRunRequest(name=name))
    await state_of(client, name, runs_pb2.RUN_STATE_CANCELLED)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.runs.PauseRun(runs_pb2.PauseRunRequest(name=name))
    assert info_of(caught.value).reason == "RUN_STATE"


async def test_runs_are_listed_newest_first_and_deleted(client: Client) -> None:
    names = []
    for _ in range(3):
        call = await train(client, epochs=1)
        names.append(await name_of(call))
        await watch(client, names[-1])
    first = await client.runs.ListRuns(runs_pb2.ListRunsRequest(page_size=2))
    rest = await client.runs.ListRuns(runs_pb2.ListRunsRequest(page_token=first.next_page_token))
    assert [run.name for run in (*first.runs, *rest.runs)] == names[::-1]
    await client.runs.DeleteRun(runs_pb2.DeleteRunRequest(name=names[0]))
    for method, request in (
        (client.runs.GetRun, runs_pb2.GetRunRequest(name=names[0])),
        (client.runs.CancelRun, runs_pb2.CancelRunRequest(name=names[0])),
        (client.runs.DeleteRun, runs_pb2.DeleteRunRequest(name="runs/none")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(request)
        assert info_of(caught.value).reason == "RUN_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.runs.ListRuns(runs_pb2.ListRunsRequest(page_token="?"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_run_that_goes_on_is_not_deleted(client: Client) -> None:
    name = await name_of(await train(client, epochs=1, batch_size=Handle.HOLD))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.runs.DeleteRun(runs_pb2.DeleteRunRequest(name=name))
    assert info_of(caught.value).reason == "RUN_STATE"


@pytest.fixture
async def restarted(tmp_path: Path) -> AsyncIterator[tuple[Client, list[runs_pb2.RunEvent]]]:
    """A server that was started again after a run, and the run's events."""
    async with running(tmp_path) as (_, client):
        call = await train(client, epochs=300)
        events = [response.event async for response in call]
    async with running(tmp_path) as (_, client):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not (await client.runs.ListRuns(runs_pb2.ListRunsRequest())).runs:
                await asyncio.sleep(0.01)
        yield client, events


async def test_events_are_there_after_a_restart(
    restarted: tuple[Client, list[runs_pb2.RunEvent]],
) -> None:
    client, events = restarted
    name = events[0].created.name
    assert await watch(client, name) == events
    assert await watch(client, name, from_event=200) == events[199:]
    assert (await get(client, name)).state == runs_pb2.RUN_STATE_SUCCEEDED


async def test_followers_are_told_that_the_server_stops_and_the_run_rests(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as (server, client):
        call = await train(client, epochs=1, batch_size=Handle.HOLD)
        name = await name_of(call)
        follower = client.runs.WatchRun(runs_pb2.WatchRunRequest(name=name, from_event=4))
        await asyncio.sleep(0)
        await server.stop(5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(follower)
        assert info_of(caught.value).reason == "SHUTTING_DOWN"
    async with running(tmp_path, resume_runs=False) as (_, client):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not (await client.runs.ListRuns(runs_pb2.ListRunsRequest())).runs:
                await asyncio.sleep(0.01)
        run = await get(client, name)
        assert (run.state, run.reason) == (runs_pb2.RUN_STATE_PAUSED, "SERVER_STOPPED")
