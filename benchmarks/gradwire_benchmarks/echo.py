"""A bare gRPC server of the same sort as gradwire's, which only answers: the floor of a call.

Run as a program, it is the server: `python -m gradwire_benchmarks.echo ADDRESS`. It ends when its
standard input does. The call `/benchmarks.Echo/N` is answered with N bytes, and the stream
`/benchmarks.Echo/stream` with what was sent, once all of it has come.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from gradwire.transport.channel import CHANNEL_OPTIONS
from gradwire_benchmarks.measuring import Sample
from gradwire_server.limits import Limits
from gradwire_server.transport.options import server_options

READY_TIMEOUT_SECONDS = 60.0

STREAM_METHOD = "/benchmarks.Echo/stream"
CHUNK_BYTES = 1 << 20
"""The size of a message of a stream; what is usual, and as good as any other here."""


class Echo:
    """Calls of the bare server with as many bytes as calls of gradwire have.

    Args:
        channel: To the bare server.
        sizes: By name, how many bytes request and response have.
        average: Makes one figure of the seconds of all calls: as what is compared with them does.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        sizes: Mapping[str, tuple[int, int]],
        average: Callable[[Sequence[float]], float],
    ) -> None:
        self._average = average
        self._calls: dict[str, tuple[Any, bytes]] = {
            name: (channel.unary_unary(f"/benchmarks.Echo/{response}"), bytes(request))
            for name, (request, response) in sizes.items()
        }

    def burst(self, num_steps: int) -> Sample:
        """Makes all calls in turn, as a step does; returns the seconds of each."""
        clock = time.perf_counter
        times: dict[str, list[float]] = {name: [] for name in self._calls}
        for _ in range(num_steps):
            for name, (call, request) in self._calls.items():
                began = clock()
                call(request)
                times[name].append(clock() - began)
        return {f"echo {name}": self._average(taken) for name, taken in times.items()}


@contextmanager
def echo_server(address: str) -> Iterator[grpc.Channel]:
    """Runs the bare server as a process; yields a channel to it."""
    with (
        subprocess.Popen(
            [sys.executable, "-m", "gradwire_benchmarks.echo", address], stdin=subprocess.PIPE
        ) as process,
        grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
    ):
        grpc.channel_ready_future(channel).result(READY_TIMEOUT_SECONDS)
        yield channel
        channel.close()
        process.communicate()


class _Handler(grpc.GenericRpcHandler):
    """Answers any method with as many bytes as its name says."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method == STREAM_METHOD:
            return grpc.stream_stream_rpc_method_handler(_echo_stream)
        answer = bytes(int(handler_call_details.method.rpartition("/")[2]))

        async def reply(_: bytes, __: Any) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(reply)


async def _echo_stream(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    """Puts chunks together, as whoever wants a tensor has to, and sends them back."""
    whole = bytearray()
    async for chunk in requests:
        whole += chunk
    view = memoryview(whole)
    for begin in range(0, len(whole), CHUNK_BYTES):
        yield bytes(view[begin : begin + CHUNK_BYTES])


async def serve(address: str) -> None:
    """Serves until the standard input ends."""
    server = grpc.aio.server(options=server_options(Limits().max_message_bytes))
    server.add_generic_rpc_handlers([_Handler()])
    server.add_insecure_port(address)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
