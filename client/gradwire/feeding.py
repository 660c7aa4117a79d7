"""Feeding a run with batches that this program makes while it trains."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gradwire.creation import as_array
from gradwire.errors import DeadlineError, GradwireError
from gradwire.recorder.values import tensor_message
from gradwire.samples import Parts, Streamed
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.v1 import runs_pb2, runs_pb2_grpc, values_pb2

IN_FLIGHT = 4
"""How many batches are on their way at once. The server answers when it has room for one."""

FOREVER = 2**40
"""How often to go over the data until the run has enough."""

_OVER = {"STREAM_NOT_FOUND", "SESSION_NOT_FOUND", "SESSION_LOST"}
"""Reasons for which nobody wants the rest: the run has ended."""


class Feeder:
    """Sends the batches of a stream from a thread of its own, no faster than the run takes them.

    Args:
        session: The session of the run.
        samples: The stream.
        num_epochs: How often to go over it.

    Attributes:
        error: What ended it before its time, if something did.
    """

    def __init__(self, session: Session, samples: Streamed, num_epochs: int) -> None:
        self.error: BaseException | None = None
        self._session = session
        self._samples = samples
        self._num_epochs = num_epochs
        self._stub = runs_pb2_grpc.RunServiceStub(session.channel)
        self._room = threading.Semaphore(IN_FLIGHT)
        self._over = threading.Event()
        self._seqs = itertools.count(1)
        self._thread = threading.Thread(target=self._feed, name="gradwire-feeder", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Sends no more."""
        self._over.set()

    def _feed(self) -> None:
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="gradwire-feeder") as pool:
            try:
                for message in self._messages():
                    self._room.acquire()
                    if self._over.is_set():
                        return
                    pool.submit(self._send, message).add_done_callback(self._done)
            except Exception as error:  # noqa: BLE001  # what the user's data raises is told to both
                self.error = error
                failure = f"{type(error).__name__}: {error}"
                pool.submit(self._send, self._message(failure=failure))

    def _messages(self) -> Iterator[runs_pb2.FeedRunRequest]:
        for _ in range(self._num_epochs):
            waiting: Parts | None = None
            for batch in self._samples.epoch():
                if waiting is not None:
                    yield self._message(waiting)
                waiting = batch
            if waiting is None:
                raise ValueError("the data yields no batch when it is gone over once more")
            yield self._message(waiting, ends_epoch=True)
        yield self._message(ends_stream=True)

    def _message(self, batch: Parts | None = None, **fields: Any) -> runs_pb2.FeedRunRequest:
        inputs, targets = ([], []) if batch is None else batch
        return runs_pb2.FeedRunRequest(
            name=self._session.name,
            stream=self._samples.name,
            seq=next(self._seqs),
            inputs=map(self._value, inputs),
            targets=map(self._value, targets),
            **fields,
        )

    def _value(self, part: Any) -> values_pb2.Value:
        if isinstance(part, Tensor):
            # Its elements, not its handle, which may be released before the server looks.
            part = part.numpy(force=True)
        return values_pb2.Value(tensor=tensor_message(as_array(part, None)))

    def _send(self, message: runs_pb2.FeedRunRequest) -> None:
        while not self._over.is_set():
            try:
                self._session.call(self._stub.FeedRun, message)
            except DeadlineError:
                continue  # the run takes its time; the server knows a message that comes again
            return

    def _done(self, sent: "Future[None]") -> None:
        error = sent.exception()
        if error is not None:
            self._over.set()
            if not (isinstance(error, GradwireError) and error.reason in _OVER):
                self.error = self.error or error
        self._room.release()
