"""Sessions: a workspace on a server."""

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

import grpc

from gradwire.checkpoint import Checkpoint
from gradwire.current import push_session, remove_session
from gradwire.errors import GradwireError, ServerUnavailableError, SessionLostError
from gradwire.objects import Rebuilder, own_variables, pack_all
from gradwire.recorder.callables import Callables
from gradwire.recorder.keys import Key
from gradwire.recorder.recorder import Recorder
from gradwire.transport.channel import new_request_id
from gradwire.transport.server import Server
from gradwire.transport.sharing import Sharing
from gradwire.transport.stream import ExecuteStream
from gradwire.types import DTYPES
from gradwire.v1 import (
    checkpoints_pb2,
    checkpoints_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 5.0
"""How long to try to end a session whose server does not answer."""


class Session(Recorder):
    """A workspace on a server: models, tensors, optimizers, and its own random numbers.

    Made by :func:`gradwire.connect`. Operations on its tensors are recorded and sent together when
    a value is wanted; they run strictly in order.

    Args:
        server: The server; the connection to it becomes the session's.
        convert: Returns what to send in place of an argument that there is no encoding for.
        checkpoint: The checkpoint whose values it begins with; empty for none.
        exact: Whether training steps are to be torch's own, to the last bit; a checkpoint knows
            whether those of its session were.

    Attributes:
        name: ``sessions/{session}``.
        device: The device it runs on, such as ``cpu`` or ``cuda:0``.
        exact: Whether training steps are torch's own, to the last bit.
        address: The server's address.
        timeout_seconds: How long to wait for an answer.
        max_message_bytes: The longest message that the server accepts.
        default_dtype: The element type of tensors made of Python floats.
        print_options: How tensors print, as far as that differs from torch's defaults.
        num_threads: How many threads a worker of the server has.
        structures: What overloaded operations returned, by their arguments' pattern.
        callbacks: The functions of the script that the server may ask for.
        undescribed: Modules that the server has not been asked about yet.
        objects: Of a session made by :func:`gradwire.restore`: the program's objects by name.
    """

    def __init__(
        self,
        server: Server,
        *,
        convert: Callable[[Any], Any],
        checkpoint: str = "",
        exact: bool = True,
    ) -> None:
        self.address = server.address
        self.server = server
        self.channel: grpc.Channel = server.channel
        self._error: GradwireError | None = None
        self._closed = False
        self._stub = sessions_pb2_grpc.SessionServiceStub(self.channel)
        restored = checkpoints_pb2.RestoreCheckpointResponse()
        if checkpoint:
            restored = self.call(
                checkpoints_pb2_grpc.CheckpointServiceStub(self.channel).RestoreCheckpoint,
                checkpoints_pb2.RestoreCheckpointRequest(
                    name=checkpoint, request_id=new_request_id()
                ),
            )
            created = restored.session
        else:
            created = self.call(
                self._stub.CreateSession,
                sessions_pb2.CreateSessionRequest(request_id=new_request_id(), exact=exact),
            ).session
        info = self.call(
            server_pb2_grpc.ServerServiceStub(self.channel).GetServerInfo,
            server_pb2.GetServerInfoRequest(),
        )
        self.num_threads = max((w.num_threads for w in info.workers), default=1)
        self.device: str = created.device
        self.exact: bool = created.exact
        self.max_message_bytes: int = info.limits.max_message_bytes
        self.default_dtype = DTYPES["float32"]
        self.print_options: dict[str, Any] = {}
        self.structures: dict[Key, Any] = {}
        self.callbacks = Callables()
        self.undescribed: WeakKeyDictionary[Any, None] = WeakKeyDictionary()
        self.objects: dict[str, Any] = {}
        self._stream = ExecuteStream(
            self.channel,
            address=server.address,
            token=server.token,
            timeout_seconds=server.timeout_seconds,
            on_lost=self._abandon,
            before_again=self._reach_again,
        )
        super().__init__(
            created.name,
            self._stream,
            convert,
            max_message_bytes=info.limits.max_message_bytes,
            max_session_bytes=info.limits.max_session_bytes,
            sharing=Sharing(server, created.name, info) if server.shared_memory else None,
            compression=server.compression,
        )
        atexit.register(self._close_at_exit)
        _open.add(self)
        if checkpoint:
            self._take_over(restored)

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        """Calls a unary RPC of a stub made on `channel`; see `Server.call`."""
        return self.server.call(method, request)

    def send(self, method: Any, requests: Iterator[Any]) -> Any:
        """Calls a client-streaming RPC of a stub made on `channel`; see `Server.send`."""
        return self.server.send(method, requests)

    def stream(self, method: Callable[..., Any], request: Any) -> Generator[Any, None, None]:
        """Calls a server-streaming RPC of a stub made on `channel`; see `Server.stream`."""
        return self.server.stream(method, request)

    @property
    def timeout_seconds(self) -> float:
        """How long to wait for an answer."""
        return self.server.timeout_seconds

    @property
    def is_lost(self) -> bool:
        """Whether the session can't be used any more."""
        return self._error is not None or self._closed

    def require_open(self) -> None:
        """Raises if the session is closed, was lost, or can't be reached any more."""
        if self._error is not None:
            raise self._error.because(f"{self.name} can't be used any more")
        if self._closed:
            raise ValueError(f"{self.name} is closed; gradwire.connect() opens another")

    def close(self) -> None:
        """Ends the session and frees what it holds on the server. Its tensors can't be used after.

        Raises:
            GradwireError: An operation recorded before failed.
        """
        remove_session(self)
        if self._closed:
            return
        _open.discard(self)
        try:
            if self._error is None:
                self.flush()
        finally:
            self._closed = True
            atexit.unregister(self._close_at_exit)
            self._stream.close()
            self._transfers.close()
            if self._error is None:
                request = sessions_pb2.DeleteSessionRequest(name=self.name, keep_runs=True)
                try:
                    self.server.call(
                        self._stub.DeleteSession, request, patience_seconds=FAREWELL_SECONDS
                    )
                except SessionLostError:
                    raise
                except ServerUnavailableError as error:
                    # It has no session any more, or ends it when it was idle for long enough.
                    log.info("%s could not be ended: %s", self.name, error)
            self.channel.close()

    def checkpoint(
        self, display_name: str = "", *, ttl_seconds: float = 0.0, **objects: Any
    ) -> Checkpoint:
        """Keeps everything that the session holds in the server's storage.

        :func:`gradwire.restore` makes a new session of it, in this program or another one, whose
        ``objects`` are what is named here. Training goes on there as it would here, to the last
        bit on a CPU: parameters, the state of optimizers, schedulers and scalers, averages and the
        session's random numbers are the same::

            checkpoint = session.checkpoint(model=model, optimizer=optimizer, epoch=3)
            ...
            session = gradwire.restore(checkpoint.name)
            model, optimizer = session.objects["model"], session.objects["optimizer"]

        The graph of autograd is not kept: run the forward pass again before a backward. Functions
        of the script, such as hooks and the lambdas of a LambdaLR, can't be kept either.

        Args:
            display_name: A name of the checkpoint for people.
            ttl_seconds: After how many seconds it is deleted; if 0, as the server is set.
            objects: What is to be found again by name: modules, optimizers, schedulers, scalers,
                tensors, numbers, strings, arrays, and structures of them. Of a module of a class
                of the script's own, the class has to be there when it is restored. If nothing is
                named: the variables of the caller, its own and the global ones, that hold modules,
                optimizers, schedulers, scalers, tensors or generators of the session.

        Raises:
            TypeError: An object has no form as data; the message says which.
            ValueError: An object lives in another session.
            RequestError: A named object holds a value on the server that has no form as data.
            StorageError: The storage is full, or refuses.
        """
        self.flush()
        if not objects:
            frame = sys._getframe(1)
            objects = own_variables(self, {**frame.f_globals, **frame.f_locals})
        packer = pack_all(self, objects)
        created = self.call(
            checkpoints_pb2_grpc.CheckpointServiceStub(self.channel).CreateCheckpoint,
            checkpoints_pb2.CreateCheckpointRequest(
                name=self.name,
                request_id=new_request_id(),
                display_name=display_name,
                ttl_seconds=ttl_seconds,
                client_state=packer.to_bytes(),
                required_handles=sorted(packer.handles),
            ),
        ).checkpoint
        if created.left_out:
            reasons = "; ".join(sorted(set(created.left_out.values())))
            warnings.warn(
                f"{len(created.left_out)} values of the session are not part of the checkpoint: "
                f"{reasons}",
                stacklevel=2,
            )
        return Checkpoint.of(created)

    def _take_over(self, restored: checkpoints_pb2.RestoreCheckpointResponse) -> None:
        """Makes the objects of a checkpoint, and releases the values that none of them holds."""
        self.start_after(restored.next_handle)
        wanted: set[int] = set()
        try:
            if restored.client_state:
                rebuilder = Rebuilder(self, restored.client_state)
                self.objects = rebuilder.objects()
                wanted = rebuilder.handles
        except BaseException:
            self.close()
            raise
        self.dead_handles += [handle for handle in restored.handles if handle not in wanted]

    def __enter__(self) -> Self:
        push_session(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _abandon(self, error: GradwireError) -> None:
        """Gives the session up: the server lost it, or can't be reached."""
        self._error = error
        self._transfers.close()

    def _reach_again(self) -> None:
        """Prepares for a server that is started in the place of this one."""
        self.server.require_process()
        self._transfers.renew()

    def leave_to_parent(self) -> None:
        """Gives the session up in a forked child: connection and session are the parent's."""
        atexit.unregister(self._close_at_exit)
        self._transfers.close()
        self._closed = True
        self._error = ServerUnavailableError(
            "it belongs to the process that this one was forked from; gradwire.connect() opens "
            "another"
        )

    def _close_at_exit(self) -> None:
        """Ends the session with the program; an error that nobody has seen yet is printed."""
        try:
            self.close()
        except GradwireError as error:
            sys.excepthook(type(error), error, error.__traceback__)

    def __repr__(self) -> str:
        return f"<gradwire.Session {self.name} on {self.device} at {self.address}>"


_open: WeakSet[Session] = WeakSet()


def _leave_all_to_parent() -> None:
    for session in _open:
        session.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
