"""The worker process: an engine at one end of a socket."""

import argparse
import gc
import importlib
import json
import math
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import structlog
import torch

from gradwire.v1 import server_pb2, sessions_pb2
from gradwire.v1.apart import Piece
from gradwire.v1.regions import claim
from gradwire_server.access.quotas import Quotas
from gradwire_server.allocator import keep_freed_memory
from gradwire_server.engine.compiling import Backend, Builds, CudaGraphs, default_folder
from gradwire_server.engine.engine import Engine
from gradwire_server.errors import GradwireError, no_shared_memory
from gradwire_server.limits import Limits
from gradwire_server.log import configure_logging
from gradwire_server.storage import Storage, StorageConfig
from gradwire_server.workers.frames import HEADER, Frame, FrameKind, encode_header
from gradwire_server.workers.polling import Polling
from gradwire_server.workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

CHUNK_BYTES = 256 * 1024
LOOK_SECONDS = 0.0005
"""How long a worker that has something to do computes before it looks for new frames."""
PROMPT_SECONDS = 0.001
"""Within what time a caller that waits for each answer comes with the next command."""
SMALL_PAYLOAD_BYTES = 64 * 1024
"""Up to here header and payload are joined and sent at once."""


class Connection:
    """Frames over a connected stream socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray()
        self._polling = Polling(PROMPT_SECONDS)

    def send(self, frame: Frame, rest: Sequence[Piece] = ()) -> None:
        """Sends a frame, waiting until the socket has taken all of it.

        Args:
            frame: The frame.
            rest: What comes after its payload.
        """
        gathered = encode_header(frame, sum(map(len, rest)))
        for piece in (frame.payload, *rest):
            if len(piece) <= SMALL_PAYLOAD_BYTES:
                gathered += piece
            else:
                self._socket.sendall(gathered)
                self._socket.sendall(piece)
                gathered = b""
        if gathered:
            self._socket.sendall(gathered)

    def receive(self, *, wait: bool) -> Iterator[Frame]:
        """Yields the frames that have arrived.

        Args:
            wait: Whether to wait for something to arrive first.

        Raises:
            EOFError: The other end is gone.
        """
        try:
            chunk = self._wait() if wait else self._socket.recv(CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not chunk:
            raise EOFError
        self._buffer += chunk
        while len(self._buffer) >= HEADER.size:
            length, call, session, kind, method_length = HEADER.unpack_from(self._buffer)
            start = HEADER.size + method_length
            end = start + length
            if len(self._buffer) >= end:
                payload = bytes(memoryview(self._buffer)[start:end])
            elif end - len(self._buffer) <= CHUNK_BYTES or len(self._buffer) < start:
                return
            else:
                payload = self._received(length, start)
            yield Frame(
                kind=FrameKind(kind),
                call=call,
                session=session,
                method=self._buffer[HEADER.size : start].decode("ascii"),
                payload=payload,
            )
            del self._buffer[:end]

    def _wait(self) -> bytes:
        """Returns what arrives next; empty if the other end is gone."""
        began = time.perf_counter()
        chunk = None
        while chunk is None and self._polling.goes_on(began):
            try:
                chunk = self._socket.recv(CHUNK_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._polling.leave_core()
        if chunk is None:
            chunk = self._socket.recv(CHUNK_BYTES)
        # Who sends large frames needs the core to make the next one.
        is_large = len(chunk) == CHUNK_BYTES
        self._polling.waited(math.inf if is_large else time.perf_counter() - began)
        return chunk

    def _received(self, size: int, start: int) -> bytes:
        """Returns a payload of which a part has arrived, when all of it has.

        It is a view of memory, which serves as bytes; to make bytes of it would take a copy.

        Args:
            size: How long it is.
            start: Where it begins in the buffer.
        """
        payload = np.empty(size, np.uint8).data
        filled = len(self._buffer) - start
        payload[:filled] = memoryview(self._buffer)[start:]
        while filled < size:
            count = self._socket.recv_into(payload[filled:])
            if not count:
                raise EOFError
            filled += count
        return cast("bytes", payload)


class FrameAnswers:
    """Sends the engine's answers as frames."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reply(
        self, call: int, payload: bytes, times: str = "", *, rest: Sequence[Piece] = ()
    ) -> None:
        """Ends a call with its response, and with what comes after that."""
        frame = Frame(kind=FrameKind.REPLY, call=call, method=times, payload=payload)
        self._connection.send(frame, rest)

    def event(self, call: int, payload: bytes) -> None:
        """Sends one response of a streaming call."""
        self._connection.send(Frame(kind=FrameKind.EVENT, call=call, payload=payload))

    def end(self, call: int, times: str = "") -> None:
        """Ends a streaming call."""
        self._connection.send(Frame(kind=FrameKind.END, call=call, method=times))

    def fail(self, call: int, error: GradwireError, times: str = "") -> None:
        """Ends a call with an error."""
        payload = error.to_status().SerializeToString()
        frame = Frame(kind=FrameKind.FAILURE, call=call, method=times, payload=payload)
        self._connection.send(frame)


def serve(connection: Connection, engine: Engine, answers: FrameAnswers) -> None:
    """Serves until told to stop; what was received before that is finished.

    Raises:
        EOFError: The front is gone.
    """
    stopping = False
    look_time = 0.0
    while engine.busy or not stopping:
        if not engine.busy or time.monotonic() >= look_time:
            for frame in connection.receive(wait=not engine.busy):
                stopping |= _take(frame, engine, answers)
            look_time = time.monotonic() + LOOK_SECONDS
        if engine.busy:
            engine.turn()


def _take(frame: Frame, engine: Engine, answers: FrameAnswers) -> bool:
    """Hands a frame on; returns whether it says to stop."""
    match frame.kind:
        case FrameKind.CALL:
            method, _, trace = frame.method.partition(" ")
            engine.call(frame.call, frame.session, method, frame.payload, trace)
        case FrameKind.OPEN_SESSION:
            opened = sessions_pb2.Session.FromString(frame.payload)
            engine.open_session(frame.session, opened.name, opened.tenant, exact=opened.exact)
            answers.reply(frame.call, b"")
        case FrameKind.CLOSE_SESSION:
            engine.close_session(frame.session)
            answers.reply(frame.call, b"")
        case FrameKind.OPEN_REGION:
            _open_region(frame, engine, answers)
        case FrameKind.CLOSE_REGION:
            engine.close_region(frame.session, json.loads(frame.payload))
            answers.reply(frame.call, b"")
        case FrameKind.CANCEL:
            engine.cancel(frame.call)
        case FrameKind.FIGURES:
            figures = engine.figures(json.loads(frame.payload))
            answers.reply(frame.call, json.dumps(figures).encode())
        case FrameKind.STOP:
            return True
        case _:
            raise ValueError(f"a worker is never sent {frame.kind.name}")
    return False


def _open_region(frame: Frame, engine: Engine, answers: FrameAnswers) -> None:
    """Gets a region's memory from the front; the worker goes on without if that fails."""
    request = json.loads(frame.payload)
    try:
        connection, memory = claim(request["socket"], bytes.fromhex(request["ticket"]))
    except OSError as error:
        log.warning("no shared memory", error=str(error))
        answers.fail(frame.call, no_shared_memory())
        return
    # Its life is the front's affair.
    connection.close()
    engine.open_region(frame.session, request["region"], memory)
    answers.reply(frame.call, b"")


def ready_frame(device: torch.device) -> Frame:
    """Returns the frame that tells the front what this worker is."""
    on_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else platform.processor() or "CPU"
    worker = server_pb2.Worker(
        device=str(device),
        device_name=name,
        num_threads=torch.get_num_threads(),
        pid=os.getpid(),
    )
    return Frame(kind=FrameKind.READY, method=torch.__version__, payload=worker.SerializeToString())


def load_late_parts() -> None:
    """Lets torch start its threads, and load what it loads when a step is first taken.

    That takes a second, so the front does not wait for it. No session is to pay for it with its
    memory or its time, or to be cut off in the midst of it.
    """
    square = torch.nn.Parameter(torch.ones(512, 512))
    (square @ square).exp().sum().backward()
    torch.optim.SGD([square]).step()
    importlib.import_module("torch._dynamo")
    # What is there by now stays. The collection at the end of each session, which gives its memory
    # back, then looks at what came since, and not at a million objects of libraries.
    gc.collect()
    gc.freeze()


def main(arguments: list[str] | None = None) -> int:
    """Runs a worker process; returns its exit status."""
    parser = argparse.ArgumentParser(description="A gradwire worker; started by gradwire serve.")
    parser.add_argument("--fd", type=int, required=True, help="the connected socket")
    parser.add_argument("--device", required=True, help="cpu or cuda:N")
    parser.add_argument("--threads", type=int, required=True, help="threads of an operation")
    parser.add_argument("--limits", type=json.loads, required=True, help="Limits as JSON")
    parser.add_argument("--tenants", type=json.loads, default={}, help="their own limits, as JSON")
    parser.add_argument("--storage", type=json.loads, required=True, help="StorageConfig as JSON")
    parser.add_argument("--replay-steps", action="store_true", help="replay exact steps")
    parser.add_argument("--compile-steps", action="store_true", help="compile steps")
    parser.add_argument("--log-format", choices=("json", "text"), default="text")
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args(arguments)
    # The front ends its workers; a Ctrl-C in the terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    connection = Connection(socket.socket(fileno=options.fd))
    answers = FrameAnswers(connection)
    limits = Limits(**options.limits)
    builds = Builds(default_folder(), num_threads=options.threads)
    backend: Backend | None = builds if device.type == "cpu" else CudaGraphs()
    if not options.compile_steps:
        backend = None
    watchdog = Watchdog(limit_seconds=limits.max_command_seconds)
    engine = Engine(
        device=device,
        limits=limits,
        quotas=Quotas(limits, options.tenants),
        storage=Storage(StorageConfig(**options.storage)),
        answers=answers,
        backend=backend,
        replays=options.replay_steps,
        watch=watchdog.watch,
    )
    configure_logging(options.log_format, options.log_level, engine.log_context)
    connection.send(ready_frame(device))
    try:
        load_late_parts()
        serve(connection, engine, answers)
    except (EOFError, ConnectionError):
        return 1
    finally:
        builds.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
