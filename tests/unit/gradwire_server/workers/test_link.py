import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from gradwire_server.workers.frames import HEADER, Frame, FrameKind, encode_header
from gradwire_server.workers.link import READ_BYTES, LinkLostError, SocketLink


class Peer:
    """The worker's end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._buffer = b""

    async def send(self, frame: Frame) -> None:
        await self.send_bytes(encode_header(frame) + frame.payload)

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, data)

    async def receive(self) -> Frame:
        head = await self._read(HEADER.size)
        length, call, session, kind, method_length = HEADER.unpack(head)
        method = (await self._read(method_length)).decode()
        payload = await self._read(length)
        return Frame(
            kind=FrameKind(kind), call=call, session=session, method=method, payload=payload
        )

    async def _read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._buffer) < size:
            chunk = await loop.sock_recv(self._end, 1 << 20)
            assert chunk
            self._buffer += chunk
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def close(self) -> None:
        self._end.close()


def request(payload: bytes = b"", session: int = 1) -> Frame:
    return Frame(kind=FrameKind.CALL, session=session, method="Forward", payload=payload)


def reply(call: int, payload: bytes = b"") -> Frame:
    return Frame(kind=FrameKind.REPLY, call=call, payload=payload)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
async def link(ends: tuple[socket.socket, socket.socket]) -> AsyncIterator[SocketLink]:
    link = SocketLink(ends[0])
    yield link
    link.close()


@pytest.fixture
def peer(ends: tuple[socket.socket, socket.socket]) -> Peer:
    return Peer(ends[1])


async def test_a_call_is_answered_by_the_reply_of_its_number(link: SocketLink, peer: Peer) -> None:
    first, second = link.call(request(b"a")), link.call(request(b"b", session=2))
    frames = [await peer.receive(), await peer.receive()]
    assert [(frame.session, frame.payload) for frame in frames] == [(1, b"a"), (2, b"b")]
    await peer.send(reply(frames[1].call, b"B"))
    await peer.send(reply(frames[0].call, b"A"))
    assert (await first.reply).payload == b"A"
    assert (await second.reply).payload == b"B"
    assert link.num_pending == 0


async def test_a_worker_that_answers_promptly_is_waited_for_in_place(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    link = SocketLink(ends[0], prompt_seconds=60)

    def answer() -> None:
        for number in (1, 2):
            assert ends[1].recv(HEADER.size + len(b"Forward")), "a frame without payload"
            ends[1].sendall(encode_header(reply(number)))

    thread = threading.Thread(target=answer)
    thread.start()
    first = link.call(request()).reply
    assert not first.done()
    await first
    second = link.call(request()).reply
    assert second.done()
    thread.join()
    link.close()


async def test_a_worker_that_takes_its_time_is_not_waited_for(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    link, peer = SocketLink(ends[0], prompt_seconds=0.01), Peer(ends[1])
    for _ in range(3):
        call = link.call(request())
        assert not call.reply.done()
        frame = await peer.receive()
        await peer.send(reply(frame.call))
        await call.reply
    link.close()


@pytest.mark.parametrize("size", [0, 1, READ_BYTES - 27, READ_BYTES, 3 * READ_BYTES, 20_000_000])
async def test_payloads_of_any_size_go_both_ways(link: SocketLink, peer: Peer, size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    call = link.call(request(payload))
    frame = await peer.receive()
    assert frame.payload == payload
    await peer.send(reply(frame.call, payload))
    answer = await call.reply
    assert type(answer.payload) is bytes
    assert answer.payload == payload


async def test_large_and_small_frames_that_follow_each_other_stay_apart(
    link: SocketLink, peer: Peer
) -> None:
    payloads = [bytes([size % 251]) * size for size in (5, 3_000_000, 0, 70_000, 1, 200_000, 9)]
    calls = [link.call(request(payload)) for payload in payloads]
    frames = [await peer.receive() for _ in payloads]
    assert [frame.payload for frame in frames] == payloads
    answers = [reply(frame.call, frame.payload) for frame in frames]
    await peer.send_bytes(b"".join(encode_header(a) + a.payload for a in answers))
    assert [(await call.reply).payload for call in calls] == payloads


async def test_a_frame_may_arrive_byte_by_byte(link: SocketLink, peer: Peer) -> None:
    call = link.call(request())
    frame = await peer.receive()
    answer = reply(frame.call, b"slow")
    for byte in encode_header(answer) + answer.payload:
        await peer.send_bytes(bytes([byte]))
        await asyncio.sleep(0)
    assert (await call.reply).payload == b"slow"


async def test_a_stream_yields_its_events_and_its_end(link: SocketLink, peer: Peer) -> None:
    stream = link.stream(request())
    frame = await peer.receive()
    for number in (b"1", b"2"):
        await peer.send(Frame(kind=FrameKind.EVENT, call=frame.call, payload=number))
    await peer.send(Frame(kind=FrameKind.END, call=frame.call))
    assert [each.kind async for each in stream] == [
        FrameKind.EVENT,
        FrameKind.EVENT,
        FrameKind.END,
    ]
    assert link.num_pending == 0


async def test_cancelling_is_told_to_the_worker_while_the_call_is_pending_and_not_later(
    link: SocketLink, peer: Peer
) -> None:
    call = link.call(request())
    sent = await peer.receive()
    call.cancel()
    cancel = await peer.receive()
    assert (cancel.kind, cancel.call) == (FrameKind.CANCEL, sent.call)
    await peer.send(Frame(kind=FrameKind.FAILURE, call=sent.call))
    assert (await call.reply).kind is FrameKind.FAILURE
    call.cancel()
    link.call(request(b"next"))
    assert (await peer.receive()).payload == b"next"


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped(
    link: SocketLink, peer: Peer
) -> None:
    call = link.call(request())
    sent = await peer.receive()
    call.reply.cancel()
    await peer.send(reply(sent.call))
    other = link.call(request())
    await peer.send(reply((await peer.receive()).call))
    await other.reply
    assert link.num_pending == 0


async def test_answers_that_came_before_the_worker_died_are_delivered(
    link: SocketLink, peer: Peer
) -> None:
    first, second = link.call(request()), link.call(request())
    await peer.send(reply((await peer.receive()).call, b"last words"))
    peer.close()
    assert (await first.reply).payload == b"last words"
    with pytest.raises(LinkLostError):
        await second.reply


async def test_when_the_worker_dies_all_that_is_pending_fails_and_so_do_later_calls(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    told: list[int] = []
    lost = SocketLink(ends[0], on_lost=lambda: told.append(lost.num_pending))
    call, stream = lost.call(request()), lost.stream(request())
    ends[1].close()
    await lost.closed
    assert told == [2]
    assert lost.lost
    for waiting in (call.reply, anext(stream), lost.call(request()).reply, lost.ready):
        with pytest.raises(LinkLostError):
            await waiting
    with pytest.raises(LinkLostError):
        await anext(lost.stream(request()))
    assert lost.num_pending == 0


async def test_sending_into_a_dead_socket_loses_the_link(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    link = SocketLink(ends[0])
    ends[1].close()
    with pytest.raises(LinkLostError):
        await link.call(request(bytes(10_000_000))).reply


@pytest.mark.parametrize(
    "garbage",
    [
        HEADER.pack(0, 1, 0, 99, 0),
        HEADER.pack(1 << 60, 1, 0, FrameKind.REPLY, 0),
        HEADER.pack(0, 1, 0, FrameKind.CALL, 0),
        HEADER.pack(0, 1, 0, FrameKind.REPLY, 1) + b"\xff",
    ],
)
async def test_what_is_no_frame_of_a_worker_loses_the_link(
    link: SocketLink, peer: Peer, garbage: bytes
) -> None:
    call = link.call(request())
    await peer.send_bytes(garbage)
    with pytest.raises(LinkLostError):
        await call.reply


async def test_the_ready_frame_is_told(link: SocketLink, peer: Peer) -> None:
    await peer.send(Frame(kind=FrameKind.READY, method="2.13.0", payload=b"worker"))
    frame = await link.ready
    assert (frame.method, frame.payload) == ("2.13.0", b"worker")
