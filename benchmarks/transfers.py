"""A large tensor to the server and back, and as many bytes by bare gRPC."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

import gradwire
from benchmarks.echo import CHUNK_BYTES, STREAM_METHOD
from benchmarks.measuring import Sample
from gradwire.current import push_session
from gradwire.session import Session

TENSOR_BYTES = 64 * 1000 * 1000


class TensorTrip:
    """Sends an array to the server and fetches it from there.

    Each time it is another array, so that nothing is known of it.

    Args:
        session: The session.
        name: What it is called in samples.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._array = np.random.default_rng(0).random(TENSOR_BYTES // 8)

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

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self._call: Any = channel.unary_unary(f"/benchmarks.Echo/{TENSOR_BYTES}")
        self._request = bytes(TENSOR_BYTES)
        self._name = name

    def burst(self, num_steps: int) -> Sample:
        """Goes to the server and back; returns the seconds of a trip."""
        began = time.perf_counter()
        for _ in range(num_steps):
            self._call(self._request)
        return {self._name: (time.perf_counter() - began) / num_steps}


class StreamTrip:
    """Sends bytes in chunks on a bare stream and gets as many back; both ends put them together."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self._call: Any = channel.stream_stream(STREAM_METHOD)
        self._name = name
        self._data = memoryview(bytes(TENSOR_BYTES))

    def burst(self, num_steps: int) -> Sample:
        """Goes to the server and back; returns the seconds of a trip."""
        began = time.perf_counter()
        for _ in range(num_steps):
            back, filled = bytearray(TENSOR_BYTES), 0
            for chunk in self._call(self._chunks()):
                back[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            assert filled == TENSOR_BYTES
        return {self._name: (time.perf_counter() - began) / num_steps}

    def _chunks(self) -> Iterator[bytes]:
        for begin in range(0, TENSOR_BYTES, CHUNK_BYTES):
            yield bytes(self._data[begin : begin + CHUNK_BYTES])


def free_address() -> str:
    """Returns an address of this host, with a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def tcp_session(**options: Any) -> Iterator[Session]:
    """Runs a server on a port of this host; yields a session on it that shares no memory."""
    address = free_address()
    command = [sys.executable, "-m", "gradwire_server", "serve", "--address", address]
    parent = ["--parent-pid", str(os.getpid()), "--log-level", "error"]
    with subprocess.Popen([*command, *parent], stdin=subprocess.DEVNULL) as process:
        try:
            with gradwire.connect(address, shared_memory=False, **options) as session:
                yield session
        finally:
            process.terminate()
