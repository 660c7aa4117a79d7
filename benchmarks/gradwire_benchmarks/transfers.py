"""Lines 7 and 8: a large tensor to the server and back, and as many bytes by bare gRPC."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

import gradwire
from gradwire.current import push_session
from gradwire.session import Session
from gradwire_benchmarks.echo import CHUNK_BYTES, STREAM_METHOD, echo_server
from gradwire_benchmarks.measuring import Contender, Sample
from gradwire_benchmarks.server import BenchServer, free_address
from gradwire_benchmarks.workbench import Workbench

SUITE = "transfers"
TENSOR_BYTES = 64 * 1000 * 1000
QUICK_BYTES = 4 * 1000 * 1000
LEAST_TRIPS = 2


class TensorTrip:
    """Sends an array to the server and fetches it from there.

    Each time it is another array, so that nothing is known of it.

    Args:
        session: The session.
        name: What it is called in samples.
        num_bytes: How large the array is.
    """

    def __init__(self, session: Session, name: str, num_bytes: int = TENSOR_BYTES) -> None:
        self._session = session
        self._name = name
        self._array = np.random.default_rng(0).random(num_bytes // 8)

    def burst(self, num_steps: int) -> Sample:
        """Goes to the server and back; returns the seconds of a trip."""
        push_session(self._session)
        taken = 0.0
        for step in range(num_steps):
            self._array[:] = step
            began = time.perf_counter()
            back = gradwire.tensor(self._array).numpy()
            taken += time.perf_counter() - began
            assert back[-1] == step
        return {self._name: taken / num_steps}


class BytesTrip:
    """Sends bytes in one bare unary call and gets as many back."""

    def __init__(self, channel: grpc.Channel, name: str, num_bytes: int = TENSOR_BYTES) -> None:
        self._call: Any = channel.unary_unary(f"/benchmarks.Echo/{num_bytes}")
        self._request = bytes(num_bytes)
        self._name = name

    def burst(self, num_steps: int) -> Sample:
        """Goes to the server and back; returns the seconds of a trip."""
        began = time.perf_counter()
        for _ in range(num_steps):
            self._call(self._request)
        return {self._name: (time.perf_counter() - began) / num_steps}


class StreamTrip:
    """Sends bytes in chunks on a bare stream and gets as many back; both ends put them together."""

    def __init__(self, channel: grpc.Channel, name: str, num_bytes: int = TENSOR_BYTES) -> None:
        self._call: Any = channel.stream_stream(STREAM_METHOD)
        self._name = name
        self._data = memoryview(bytes(num_bytes))

    def burst(self, num_steps: int) -> Sample:
        """Goes to the server and back; returns the seconds of a trip."""
        began = time.perf_counter()
        for _ in range(num_steps):
            back, filled = bytearray(len(self._data)), 0
            for chunk in self._call(self._chunks()):
                back[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            assert filled == len(back)
        return {self._name: (time.perf_counter() - began) / num_steps}

    def _chunks(self) -> Iterator[bytes]:
        for begin in range(0, len(self._data), CHUNK_BYTES):
            yield bytes(self._data[begin : begin + CHUNK_BYTES])


def measure_transfers(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds, by where the server is."""
    num_bytes = QUICK_BYTES if bench.plan.quick else TENSOR_BYTES
    if bench.plan.wants(SUITE, "trip shared"):
        trips: list[Contender] = [
            TensorTrip(bench.exact, "trip shared", num_bytes),
            BytesTrip(bench.echo_channel, "trip bytes", num_bytes),
        ]
        yield (
            f"{num_bytes // 1000**2} MB, shared memory",
            bench.plan.measure(trips, least_steps=LEAST_TRIPS),
        )
    if bench.plan.wants(SUITE, "trip sent"):
        with (
            BenchServer(address=free_address()) as server,
            gradwire.connect(server.address, shared_memory=False) as session,
            echo_server(free_address()) as channel,
        ):
            trips = [
                TensorTrip(session, "trip sent", num_bytes),
                StreamTrip(channel, "trip stream", num_bytes),
            ]
            yield (
                f"{num_bytes // 1000**2} MB, TCP",
                bench.plan.measure(trips, least_steps=LEAST_TRIPS),
            )
