"""The engine: takes calls in, gives each session its turn, and answers."""

import ctypes
import gc
from collections import deque

import structlog
import torch

from gradwire.v1 import server_pb2
from gradwire_server.engine.session import Session
from gradwire_server.engine.tasks import (
    Answers,
    ExecuteTask,
    StreamTask,
    Task,
    UnaryTask,
    parse,
)
from gradwire_server.engine.verbs import SESSION_VERBS, Streaming, Unary, catalog_response
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits

log = structlog.get_logger(__name__)


class Lane:
    """Tasks that run one after the other. A session has one for its commands and one for each run.

    Attributes:
        session: The session; None for what belongs to none.
        tasks: The tasks, the one in progress first.
    """

    def __init__(self, session: Session | None) -> None:
        self.session = session
        self.tasks: deque[Task] = deque()


class Engine:
    """Runs calls, strictly in order within a session and in turns between sessions.

    Not thread-safe: everything happens on the caller's thread.

    Args:
        device: Where sessions live.
        limits: The limits in force.
        answers: Where answers go.
    """

    def __init__(self, *, device: torch.device, limits: Limits, answers: Answers) -> None:
        self._device = device
        self._limits = limits
        self._answers = answers
        self._sessions: dict[int, Session] = {}
        self._commands: dict[int, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._active: Session | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._ready)

    def open_session(self, session_id: int, name: str) -> None:
        """Makes a session.

        Args:
            session_id: What `call` knows it by.
            name: `sessions/{session}`.
        """
        self._activate(None)
        session = Session(name, device=self._device, limits=self._limits)
        self._sessions[session_id] = session
        self._commands[session_id] = Lane(session)

    def close_session(self, session_id: int) -> None:
        """Forgets a session and gives its memory back; its calls fail with SESSION_NOT_FOUND."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        del self._commands[session_id]
        if self._active is session:
            self._active = None
        for lane in [lane for lane in self._ready if lane.session is session]:
            self._ready.remove(lane)
            for task in lane.tasks:
                task.fail(
                    GradwireError(Reason.SESSION_NOT_FOUND, f"{session.name} was deleted meanwhile")
                )
        session.close()
        del session
        gc.collect()
        _return_free_memory(self._device)

    def call(self, call: int, session_id: int, method: str, payload: bytes) -> None:
        """Takes a call in; it is answered in its turn.

        Args:
            call: What answers are marked with.
            session_id: The session; 0 for calls that belong to none.
            method: The RPC's name, such as `Forward`.
            payload: The serialized request.
        """
        try:
            self._enqueue(call, session_id, method, payload)
        except GradwireError as error:
            self._answers.fail(call, error)

    def cancel(self, call: int) -> None:
        """Gives a call up if it waits, or at its next step if it is a run.

        Messages of an Execute stream are not given up: their place in the order is taken.
        """
        for lane in self._ready:
            for position, task in enumerate(lane.tasks):
                if task.call != call or isinstance(task, ExecuteTask):
                    continue
                del lane.tasks[position]
                if not lane.tasks:
                    self._ready.remove(lane)
                task.fail(GradwireError(Reason.CANCELLED, "the caller gave the call up"))
                return

    def turn(self) -> None:
        """Gives the next lane its turn: one command, or one step of a run."""
        lane = self._ready.popleft()
        self._activate(lane.session)
        if not lane.tasks[0].advance():
            lane.tasks.popleft()
        if lane.tasks:
            self._ready.append(lane)

    def _activate(self, session: Session | None) -> None:
        if session is self._active:
            return
        if self._active is not None:
            self._active.deactivate()
        if session is not None:
            session.activate()
        self._active = session

    def _enqueue(self, call: int, session_id: int, method: str, payload: bytes) -> None:
        limit_bytes = self._limits.max_message_bytes
        if method == "GetCatalog":
            parse(server_pb2.GetCatalogRequest, payload)
            lane = Lane(None)
            task: Task = UnaryTask(
                call, catalog_response, self._answers, method=method, limit_bytes=limit_bytes
            )
        else:
            session = self._sessions.get(session_id)
            if session is None:
                raise GradwireError(Reason.SESSION_NOT_FOUND, "the session was deleted")
            lane = self._commands[session_id]
            task = self._session_task(call, session, method, payload)
            if isinstance(task, StreamTask):
                lane = Lane(session)
        lane.tasks.append(task)
        if len(lane.tasks) == 1:
            self._ready.append(lane)

    def _session_task(self, call: int, session: Session, method: str, payload: bytes) -> Task:
        if method == "Execute":
            return ExecuteTask(call, session, payload, self._answers)
        verb = SESSION_VERBS[method]
        limit_bytes = self._limits.max_message_bytes
        if isinstance(verb, Streaming):
            return StreamTask(
                call,
                lambda: verb.handler(session, parse(verb.request, payload)),
                self._answers,
                method=method,
                limit_bytes=limit_bytes,
            )
        assert isinstance(verb, Unary)
        return UnaryTask(
            call,
            lambda: verb.handler(session, parse(verb.request, payload)),
            self._answers,
            method=method,
            limit_bytes=limit_bytes,
        )


def _return_free_memory(device: torch.device) -> None:
    """Gives freed memory back to the operating system, so that others can have it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        log.debug("this C library has no malloc_trim; freed memory stays with the process")
