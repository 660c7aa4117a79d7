import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import pytest

from gradwire.v1 import models_pb2, sessions_pb2, values_pb2
from gradwire_server.server import Server
from tests.fakes.server import Client, info_of, running

Request = sessions_pb2.ExecuteRequest


async def execute(client: Client, messages: Iterable[Request]) -> list[tuple[int, int]]:
    """Sends messages on one stream; returns seq and the worker's count of each answer."""
    stream = client.sessions.Execute(iter(messages))
    return [(answer.seq, answer.values[0].int_value) async for answer in stream]


async def fails(client: Client, messages: Iterable[Request], reason: str, num_answers: int) -> None:
    """Expects that a stream answers some messages and then fails."""
    stream = client.sessions.Execute(iter(messages))
    for _ in range(num_answers):
        assert await stream.read() is not grpc.aio.EOF
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert info_of(caught.value).reason == reason


async def test_messages_are_answered_in_order_and_only_the_first_needs_the_name(
    client: Client,
) -> None:
    name = await client.session()
    messages = [Request(name=name, seq=1), *(Request(seq=seq) for seq in range(2, 500))]
    assert await execute(client, messages) == [(seq, seq) for seq in range(1, 500)]


async def test_messages_are_not_held_back_until_earlier_ones_are_answered(
    server: Server, client: Client
) -> None:
    name = await client.session()
    answered = asyncio.Event()

    async def messages() -> AsyncIterator[Request]:
        for seq in range(1, 11):
            yield Request(name=name, seq=seq)
        await answered.wait()

    stream = client.sessions.Execute(messages())
    held = asyncio.ensure_future(
        client.models.Backward(models_pb2.BackwardRequest(name=name, handle=1))
    )
    for seq in range(1, 11):
        assert (await stream.read()).seq == seq
    answered.set()
    await client.models.ZeroGrad(models_pb2.ZeroGradRequest(name=name))
    await held
    assert await stream.read() is grpc.aio.EOF


async def test_a_message_resent_on_another_stream_is_answered_but_not_carried_out_again(
    client: Client,
) -> None:
    name = await client.session()
    first = await execute(client, [Request(name=name, seq=1), Request(seq=2)])
    again = await execute(client, [Request(name=name, seq=1), Request(name=name, seq=2)])
    assert again == first
    assert await execute(client, [Request(name=name, seq=3)]) == [(3, 3)]


async def test_a_message_whose_stream_broke_is_carried_out_once(
    server: Server, client: Client
) -> None:
    name = await client.session()
    stream = client.sessions.Execute(iter([Request(name=name, seq=1)]))
    assert (await stream.read()).seq == 1
    stream.cancel()
    stream = client.sessions.Execute(iter([Request(name=name, seq=2)]))
    session = server.registry.get(name)
    async with asyncio.timeout(5):
        while session._messages.last_seq < 2:
            await asyncio.sleep(0.001)
    stream.cancel()
    assert await execute(client, [Request(name=name, seq=2), Request(seq=3)]) == [(2, 2), (3, 3)]


async def test_a_resent_message_that_differs_ends_the_stream_with_aborted(client: Client) -> None:
    name = await client.session()
    await execute(client, [Request(name=name, seq=1)])
    changed = Request(name=name, seq=1, failure_seen_seq=1)
    await fails(client, [changed], "REQUEST_CHANGED", 0)
    assert await execute(client, [Request(name=name, seq=2)]) == [(2, 2)]


async def test_a_left_out_message_ends_the_stream_after_the_answers_before_it(
    client: Client,
) -> None:
    name = await client.session()
    messages = [Request(name=name, seq=1), Request(seq=2), Request(seq=4)]
    await fails(client, messages, "OUT_OF_ORDER", 2)
    assert await execute(client, [Request(name=name, seq=3)]) == [(3, 3)]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([Request(seq=1)], "INVALID_REQUEST"),
        ([Request(name="nonsense", seq=1)], "INVALID_REQUEST"),
        ([Request(name="sessions/x", seq=1)], "SESSION_NOT_FOUND"),
    ],
)
async def test_a_stream_without_a_session_ends_with_the_reason(
    client: Client, messages: list[Request], reason: str
) -> None:
    await fails(client, messages, reason, 0)


async def test_a_stream_belongs_to_one_session(client: Client) -> None:
    name, other = await client.session(), await client.session()
    await fails(
        client, [Request(name=name, seq=1), Request(name=other, seq=2)], "INVALID_REQUEST", 1
    )
    await fails(
        client, [Request(name=name, seq=2), Request(name="sessions/x", seq=3)], "INVALID_REQUEST", 1
    )


async def test_acknowledged_answers_are_forgotten(server: Server, client: Client) -> None:
    name = await client.session()
    stream = [Request(name=name, seq=seq, acknowledged_seq=seq - 1) for seq in range(1, 4)]
    for message in stream:
        await execute(client, [message])
    assert server.registry.get(name)._messages.num_kept == 1
    await fails(client, [Request(name=name, seq=1)], "OUT_OF_ORDER", 0)


async def test_a_stream_is_read_only_as_fast_as_messages_are_answered(tmp_path: Path) -> None:
    async with running(tmp_path, max_queued_messages=2) as (server, client):
        name = await client.session()
        messages = [Request(name=name, seq=seq) for seq in range(1, 101)]
        assert await execute(client, messages) == [(seq, seq) for seq in range(1, 101)]
        assert server.registry.get(name).num_pending == 0


async def test_a_message_over_the_limit_is_refused_and_its_number_is_not_used_up(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, max_message_bytes=10_000) as (_, client):
        name = await client.session()
        tensor = values_pb2.Tensor(data=bytes(15_000))
        put = sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=1, tensor=tensor))
        await fails(client, [Request(name=name, seq=1, commands=[put])], "LIMIT_EXCEEDED", 0)
        assert await execute(client, [Request(name=name, seq=1)]) == [(1, 1)]


async def test_a_worker_that_dies_ends_the_stream_with_session_lost(client: Client) -> None:
    name = await client.session()
    release = asyncio.Event()

    async def messages() -> AsyncIterator[Request]:
        yield Request(name=name, seq=1)
        await release.wait()

    stream = client.sessions.Execute(messages())
    assert (await stream.read()).seq == 1
    with pytest.raises(grpc.aio.AioRpcError):
        await client.models.Backward(models_pb2.BackwardRequest(name=name, handle=2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info_of(caught.value).reason == "SESSION_LOST"
    release.set()


async def test_a_cancelled_stream_leaves_nothing_pending(server: Server, client: Client) -> None:
    name = await client.session()
    for seq in range(1, 20):
        stream = client.sessions.Execute(iter([Request(name=name, seq=seq)]))
        if seq % 2:
            await stream.read()
        stream.cancel()
        await execute(client, [Request(name=name, seq=seq)])
    assert server.registry.get(name).num_pending == 0
    assert not server.registry.get(name)._on_end
    async with asyncio.timeout(5):
        while server.traffic.num_calls:
            await asyncio.sleep(0.001)
    assert not server.traffic._on_close
