"""A worker process without torch, for tests of the front: it speaks frames and obeys requests.

A CALL is obeyed by its method:

* ``Forward`` is answered by its request, byte for byte.
* ``Step`` counts: it is answered with the number of Steps and Executes that its session has seen.
* ``Execute`` counts too; its answer has the count in place of values.
* ``Backward`` obeys its handle: with ``HOLD`` it is not answered until it is cancelled, or until
  a ZeroGrad of the session releases it; with ``DIE`` the process ends; with ``FAIL`` it fails.
* ``Train`` begins, reports `epochs` steps at once and ends; with a batch_size of ``HOLD`` it does
  not end until ``CancelRun`` or ``PauseRun``, with ``DIE`` the process ends, with ``FAIL`` it
  fails.
* ``CreateModel`` tells its session's name; with the model_id "bad" it fails.
"""

import argparse
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from google.protobuf.message import Message

from gradwire.v1 import models_pb2, runs_pb2, server_pb2, sessions_pb2, values_pb2
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.workers.frames import HEADER, Frame, FrameKind, encode_header


class Handle(IntEnum):
    """What a handle asks for."""

    HOLD = 1
    DIE = 2
    FAIL = 3


LONG_MESSAGE = "torch says \u2713 " * 2000


@dataclass
class FakeSession:
    """What the worker knows of a session."""

    name: str
    count: int = 0
    held: list[int] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=dict)


class FakeWorker:
    """Obeys frames."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file = connected.makefile("rb")
        self._sessions: dict[int, FakeSession] = {}

    def send(self, frame: Frame) -> None:
        self._socket.sendall(encode_header(frame) + frame.payload)

    def receive(self) -> Iterator[Frame]:
        while len(head := self._file.read(HEADER.size)) == HEADER.size:
            length, call, session, kind, method_length = HEADER.unpack(head)
            method = self._file.read(method_length).decode()
            yield Frame(
                kind=FrameKind(kind),
                call=call,
                session=session,
                method=method,
                payload=self._file.read(length),
            )

    def serve(self) -> None:
        for frame in self.receive():
            match frame.kind:
                case FrameKind.OPEN_SESSION:
                    self._sessions[frame.session] = FakeSession(
                        sessions_pb2.Session.FromString(frame.payload).name
                    )
                    self.reply(frame.call)
                case FrameKind.CLOSE_SESSION:
                    closed = self._sessions.pop(frame.session)
                    for call in (*closed.held, *closed.runs.values()):
                        self.fail(call, Reason.SESSION_NOT_FOUND)
                    self.reply(frame.call)
                case FrameKind.CALL:
                    self.obey(frame)
                case FrameKind.CANCEL:
                    for session in self._sessions.values():
                        if frame.call in session.held:
                            session.held.remove(frame.call)
                            self.fail(frame.call, Reason.CANCELLED)
                case FrameKind.STOP:
                    return
                case _:
                    raise ValueError(frame.kind)

    def obey(self, frame: Frame) -> None:
        if frame.method == "GetCatalog":
            self.reply(frame.call, server_pb2.GetCatalogResponse())
            return
        session = self._sessions[frame.session]
        match frame.method:
            case "Forward":
                self.send(Frame(kind=FrameKind.REPLY, call=frame.call, payload=frame.payload))
            case "Step":
                session.count += 1
                self.reply(frame.call, models_pb2.StepResponse(num_steps=session.count))
            case "Execute":
                session.count += 1
                seq = sessions_pb2.ExecuteRequest.FromString(frame.payload).seq
                count = values_pb2.Value(int_value=session.count)
                self.reply(frame.call, sessions_pb2.ExecuteResponse(seq=seq, values=[count]))
            case "Backward":
                self.obey_handle(frame, session)
            case "ZeroGrad":
                self.reply(frame.call)
                while session.held:
                    self.reply(session.held.pop(0))
            case "Train":
                self.train(frame, session)
            case "CancelRun" | "PauseRun":
                self.stop_run(frame, session)
            case "CreateModel":
                request = models_pb2.CreateModelRequest.FromString(frame.payload)
                if request.model_id == "bad":
                    self.fail(frame.call, Reason.UNKNOWN_NAME)
                    return
                model = models_pb2.Model(name=f"{session.name}/models/{request.model_id or 'm'}")
                self.reply(frame.call, models_pb2.CreateModelResponse(model=model))
            case _:
                self.fail(frame.call, Reason.INVALID_REQUEST)

    def obey_handle(self, frame: Frame, session: FakeSession) -> None:
        match models_pb2.BackwardRequest.FromString(frame.payload).handle:
            case Handle.HOLD:
                session.held.append(frame.call)
            case Handle.DIE:
                os._exit(3)
            case Handle.FAIL:
                self.fail(frame.call, Reason.OPERATION_FAILED, LONG_MESSAGE)
            case _:
                self.reply(frame.call, models_pb2.BackwardResponse())

    def train(self, frame: Frame, session: FakeSession) -> None:
        request = runs_pb2.TrainRequest.FromString(frame.payload)
        if not request.epochs:
            self.fail(frame.call, Reason.INVALID_REQUEST)
            return
        started = runs_pb2.RunStarted(
            num_steps=request.epochs,
            display_name=request.display_name,
            cancel_on_disconnect=request.cancel_on_disconnect,
        )
        self.event(frame.call, runs_pb2.RunEvent(started=started))
        for step in range(1, request.epochs + 1):
            progress = runs_pb2.RunProgress(step=step, losses=[1 / step])
            self.event(frame.call, runs_pb2.RunEvent(progress=progress))
        match request.batch_size:
            case Handle.HOLD:
                session.runs[request.run] = frame.call
            case Handle.DIE:
                os._exit(3)
            case Handle.FAIL:
                self.fail(frame.call, Reason.OPERATION_FAILED)
            case _:
                self.end_run(frame.call, runs_pb2.RUN_STATE_SUCCEEDED)

    def end_run(self, call: int, state: "runs_pb2.RunState") -> None:
        self.event(call, runs_pb2.RunEvent(ended=runs_pb2.RunEnded(state=state)))
        self.send(Frame(kind=FrameKind.END, call=call))

    def stop_run(self, frame: Frame, session: FakeSession) -> None:
        call = session.runs.pop(runs_pb2.CancelRunRequest.FromString(frame.payload).name)
        self.reply(frame.call)
        if frame.method == "CancelRun":
            self.end_run(call, runs_pb2.RUN_STATE_CANCELLED)
        else:
            self.send(Frame(kind=FrameKind.END, call=call))

    def event(self, call: int, event: runs_pb2.RunEvent) -> None:
        self.send(Frame(kind=FrameKind.EVENT, call=call, payload=event.SerializeToString()))

    def reply(self, call: int, message: Message | None = None) -> None:
        payload = b"" if message is None else message.SerializeToString()
        self.send(Frame(kind=FrameKind.REPLY, call=call, payload=payload))

    def fail(self, call: int, reason: Reason, message: str = "as asked") -> None:
        status = GradwireError(reason, message, fields=[("handle", "as asked")]).to_status()
        self.send(Frame(kind=FrameKind.FAILURE, call=call, payload=status.SerializeToString()))


def main() -> None:
    """Runs the worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    options, _ = parser.parse_known_args()
    worker = FakeWorker(socket.socket(fileno=options.fd))
    ready = server_pb2.Worker(
        device=options.device,
        device_name="a fake",
        num_threads=options.threads,
        pid=os.getpid(),
    )
    worker.send(Frame(kind=FrameKind.READY, method="0.fake", payload=ready.SerializeToString()))
    worker.serve()


if __name__ == "__main__":
    main()
