import asyncio
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from gradwire.v1 import models_pb2, server_pb2, values_pb2
from gradwire_server.server import Server
from tests.fakes.server import Client, details_of, info_of, running

HOLD, DIE, FAIL = 1, 2, 3


async def idle(server: Server, name: str) -> None:
    """Waits until nothing of a session is pending."""
    async with asyncio.timeout(5):
        while server.registry.get(name).num_pending or server.traffic.num_calls:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("size", [0, 1000, 5_000_000])
async def test_requests_reach_the_worker_byte_for_byte_and_so_do_its_answers(
    client: Client, size: int
) -> None:
    name = await client.session()
    tensor = values_pb2.Value(tensor=values_pb2.Tensor(data=bytes(size)))
    request = models_pb2.ForwardRequest(name=f"{name}/models/m", inputs=[tensor])
    call = client.channel.unary_unary("/gradwire.v1.ModelService/Forward")
    assert await call(request.SerializeToString()) == request.SerializeToString()


async def test_a_resent_request_is_not_carried_out_again(client: Client) -> None:
    name = await client.session()
    request = models_pb2.StepRequest(name=name, request_id="id")
    answers = await asyncio.gather(*(client.models.Step(request) for _ in range(5)))
    assert [answer.num_steps for answer in answers] == [1] * 5
    assert (await client.models.Step(models_pb2.StepRequest(name=name))).num_steps == 2


async def test_a_request_whose_deadline_passes_is_cancelled_and_may_be_sent_again(
    server: Server, client: Client
) -> None:
    name = await client.session()
    request = models_pb2.BackwardRequest(name=name, handle=HOLD, request_id="id")
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.models.Backward(request, timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await idle(server, name)
        assert not len(server.registry.get(name)._requests)


async def test_a_cancelled_call_is_cancelled_at_the_worker(server: Server, client: Client) -> None:
    name = await client.session()
    call = client.models.Backward(models_pb2.BackwardRequest(name=name, handle=HOLD))
    await client.models.Step(models_pb2.StepRequest(name=name))
    call.cancel()
    await idle(server, name)
    link = server.pool.workers[0].link
    async with asyncio.timeout(5):
        while getattr(link, "num_pending", 0):
            await asyncio.sleep(0.001)


async def test_a_failure_carries_the_details_that_the_worker_gave(client: Client) -> None:
    name = await client.session()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.models.Backward(models_pb2.BackwardRequest(name=name, handle=FAIL))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(caught.value).reason == "OPERATION_FAILED"
    assert (caught.value.details() or "").startswith("torch says")
    violations = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert violations[0].field == "handle"


async def test_a_message_over_the_limit_is_refused_with_limit_and_size(tmp_path: Path) -> None:
    async with running(tmp_path, max_message_bytes=10_000) as (_, client):
        name = await client.session()
        tensor = values_pb2.Value(tensor=values_pb2.Tensor(data=bytes(15_000)))
        request = models_pb2.ForwardRequest(name=name, inputs=[tensor])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.models.Forward(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(caught.value).metadata == {
            "limit": "max_message_bytes",
            "value": "10000",
            "size": str(request.ByteSize()),
        }
        assert (await client.models.Step(models_pb2.StepRequest(name=name))).num_steps == 1


async def test_too_many_waiting_calls_are_refused_with_the_limit(tmp_path: Path) -> None:
    async with running(tmp_path, max_queued_messages=1) as (server, client):
        name = await client.session()
        held = asyncio.ensure_future(
            client.models.Backward(models_pb2.BackwardRequest(name=name, handle=HOLD))
        )
        async with asyncio.timeout(5):
            while not server.registry.get(name).num_pending:
                await asyncio.sleep(0.001)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.models.Step(models_pb2.StepRequest(name=name))
        assert info_of(caught.value).metadata["limit"] == "max_queued_messages"
        assert details_of(caught.value, error_details_pb2.RetryInfo).HasField("retry_delay")
        held.cancel()


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x0a\x02\xff\xff"])
async def test_what_is_no_message_is_invalid_for_every_route(
    client: Client, payload: bytes
) -> None:
    for method in ("ModelService/Step", "ModelService/CreateModel", "SessionService/GetSession"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.channel.unary_unary(f"/gradwire.v1.{method}")(payload)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method


async def test_the_server_tells_what_it_is(client: Client) -> None:
    await client.session()
    info = await client.server.GetServerInfo(server_pb2.GetServerInfoRequest())
    assert info.server_version
    assert info.torch_version == "0.fake"
    assert info.limits.max_sessions == 256
    (worker,) = info.workers
    assert (worker.id, worker.device, worker.num_sessions) == ("worker-0", "cpu", 1)
    assert worker.state == server_pb2.WORKER_STATE_READY
    await client.server.GetCatalog(server_pb2.GetCatalogRequest())
