"""Health, reflection, tokens, and how a server stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gradwire.v1 import models_pb2, runs_pb2, server_pb2, sessions_pb2
from gradwire_server.config import SettingsError
from gradwire_server.server import Server
from gradwire_server.transport.routes import SERVICES
from gradwire_server.workers.frames import Frame, FrameKind
from tests.fakes.server import Client, details_of, info_of, running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(client: Client) -> Any:
    return health_pb2_grpc.HealthStub(client.channel)


@pytest.mark.parametrize("service", ["", *(service.full_name for service in SERVICES)])
async def test_health_is_serving_once_a_worker_is_ready(client: Client, service: str) -> None:
    watch = health(client).Watch(health_pb2.HealthCheckRequest(service=service))
    async with asyncio.timeout(10):
        while (await watch.read()).status != SERVING:
            pass
    watch.cancel()


async def test_health_is_not_serving_while_the_only_worker_starts_again(client: Client) -> None:
    name = await client.session()
    watch = health(client).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError):
        await client.models.Backward(models_pb2.BackwardRequest(name=name, handle=2))
    assert (await watch.read()).status == NOT_SERVING
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_reflection_lists_and_describes_every_service(client: Client) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    Request = reflection_pb2.ServerReflectionRequest  # noqa: N806
    names = [service.full_name for service in SERVICES]
    requests = [Request(list_services="")]
    requests += [Request(file_containing_symbol=name) for name in names]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert {*names, "grpc.health.v1.Health"} <= listed
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in answers[1:])


async def test_a_server_with_a_token_answers_only_those_who_show_it(tmp_path: Path) -> None:
    async with running(tmp_path, token="secret") as (_, client):
        request = server_pb2.GetServerInfoRequest()
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", "secret"),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.server.GetServerInfo(request, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert info_of(caught.value).reason == "UNAUTHENTICATED"
        for stream in (
            client.sessions.Execute(iter([sessions_pb2.ExecuteRequest(seq=1)])),
            client.runs.Train(runs_pb2.TrainRequest(name="sessions/x")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert info_of(caught.value).reason == "UNAUTHENTICATED"
        right = (("authorization", "Bearer secret"),)
        await client.server.GetServerInfo(request, metadata=right)
        await health(client).Check(health_pb2.HealthCheckRequest())


async def refused(call: Awaitable[Any]) -> None:
    """Waits for a call that a server which stops refuses."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info_of(caught.value).reason == "SHUTTING_DOWN"
    assert details_of(caught.value, error_details_pb2.RetryInfo).HasField("retry_delay")


async def test_a_server_that_stops_finishes_what_is_in_flight_and_refuses_the_rest(
    server: Server, client: Client
) -> None:
    name = await client.session()
    release = asyncio.Event()

    async def messages() -> AsyncIterator[sessions_pb2.ExecuteRequest]:
        yield sessions_pb2.ExecuteRequest(name=name, seq=1)
        await release.wait()

    stream = client.sessions.Execute(messages())
    assert (await stream.read()).seq == 1
    held = asyncio.ensure_future(
        client.models.Backward(models_pb2.BackwardRequest(name=name, handle=1))
    )
    await client.models.Step(models_pb2.StepRequest(name=name))
    watch = health(client).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING

    stopping = asyncio.create_task(server.stop(10))
    assert (await watch.read()).status == NOT_SERVING
    await refused(client.models.Step(models_pb2.StepRequest(name=name)))
    assert not held.done()
    link = server.registry.get(name).link
    await link.call(_release(server, name)).reply
    await held
    # The session is kept for the next server first, and that waits for what is in flight in it.
    await refused(stream.read())
    release.set()
    await stopping
    assert server.address.path is not None
    assert not server.address.path.exists()


async def test_a_call_that_does_not_finish_is_cut_off_after_the_drain_timeout(
    server: Server, client: Client
) -> None:
    name = await client.session()
    held = asyncio.ensure_future(
        client.models.Backward(models_pb2.BackwardRequest(name=name, handle=1))
    )
    await client.models.Step(models_pb2.StepRequest(name=name))
    await server.stop(0.05)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await held
    assert info_of(caught.value).reason == "SHUTTING_DOWN"
    assert not server.pool.ready


async def test_a_session_that_waits_for_a_worker_is_refused_when_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fakes.server.FAKE_WORKER", ("sleep", "60"))
    async with running(tmp_path) as (server, client):
        waiting = asyncio.ensure_future(client.session())
        async with asyncio.timeout(5):
            while not server.traffic.num_calls:
                await asyncio.sleep(0.001)
        server.pool.kill()
        await server.stop(5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting
        assert info_of(caught.value).reason == "SHUTTING_DOWN"


async def test_the_socket_may_be_used_only_by_its_owner(server: Server) -> None:
    assert server.address.path is not None
    assert server.address.path.stat().st_mode & 0o077 == 0


async def test_port_0_takes_a_free_port_and_two_servers_do_not_share_one(tmp_path: Path) -> None:
    async with running(tmp_path, address="127.0.0.1:0") as (server, client):
        assert server.address.port > 0
        await client.session()
        with pytest.raises(SettingsError, match="cannot listen"):
            async with running(tmp_path, address=str(server.address)):
                pass


def _release(server: Server, name: str) -> Any:
    """Returns the frame that makes the fake worker answer what it holds."""
    number = server.registry.get(name).number
    return Frame(kind=FrameKind.CALL, session=number, method="ZeroGrad")
