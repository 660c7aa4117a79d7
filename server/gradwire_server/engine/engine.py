"""The engine: takes calls in, gives each session its turn, and answers."""

import ctypes
import gc
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from mmap import mmap
from typing import Any
from weakref import WeakValueDictionary

import structlog
import torch

from gradwire.v1 import server_pb2
from gradwire_server.access.quotas import Quotas
from gradwire_server.calls import log_name, trace_id
from gradwire_server.engine.ceiling import Ceiling
from gradwire_server.engine.compiling import Backend, Compiling, Replays
from gradwire_server.engine.decoding import KnownPrograms
from gradwire_server.engine.device_figures import device_figures
from gradwire_server.engine.figures import Figures, Timing
from gradwire_server.engine.holdings import Holdings
from gradwire_server.engine.session import Session
from gradwire_server.engine.tasks import (
    Answers,
    ExecuteTask,
    HandlerTask,
    LastingTask,
    StreamTask,
    Task,
    UnaryTask,
    WaitingTask,
    Watch,
    parse,
)
from gradwire_server.engine.turns import Lane, Queue, Turns
from gradwire_server.engine.verbs import (
    SESSION_VERBS,
    Lasting,
    Streaming,
    Unary,
    Waiting,
    catalog_response,
)
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage
from gradwire_server.storage.checkpoints import UNCHANGING

log = structlog.get_logger(__name__)

TURN_SECONDS = 0.0005
"""How long who is alone on the worker goes on in one turn."""
SHARED_TURN_SECONDS = 0.00025
"""The same of one among others: as long as two or three small steps take, so that what changing
sessions costs is not paid for each, and short enough for those who wait."""

ENDED_BYTES = 16 << 20
"""What ended sessions held is given back when it comes to more,"""
ENDED_SHARE = 16
"""or when they were more than one in so many of those that live."""


class Engine:
    """Runs calls, strictly in order within a session and in turns between tenants and sessions.

    Not thread-safe: everything happens on the caller's thread.

    Args:
        device: Where sessions live.
        limits: The limits in force.
        quotas: The quotas in force; those among `limits` if none are given.
        backend: What makes steps fast that need not be exact; none are if it is None.
        replays: Whether steps that must be exact are replayed when they come again and again.
        storage: Where durable data is.
        answers: Where answers go.
        watch: Makes a block that is interrupted with an error if it takes too long.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        limits: Limits,
        storage: Storage,
        answers: Answers,
        quotas: Quotas | None = None,
        backend: Backend | None = None,
        replays: bool = True,
        watch: Watch = nullcontext,
    ) -> None:
        self._device = device
        self._limits = limits
        self._storage = storage
        self._answers = answers
        self._watch = watch
        self._queues: dict[int, Queue] = {}
        self._shared = Queue(None)
        self._ready = Turns()
        self._figures = Figures()
        counters = self._figures.counters
        self._replaying = self._compiling = None
        if replays:
            self._replaying = Compiling(Replays(), counters["replayed_steps"])
        if backend is not None:
            self._compiling = Compiling(
                backend, counters["compiled_steps"], otherwise=self._replaying
            )
        self._quotas = quotas or Quotas(limits)
        self._holdings = Holdings(self._quotas)
        self._known: WeakValueDictionary[str, KnownPrograms] = WeakValueDictionary()
        self._active: Session | None = None
        self._num_ended = self._ended_bytes = 0
        # A response is encoded, copied into its message, and serialised.
        self._ceiling = Ceiling(device, slack_bytes=4 * limits.max_message_bytes)
        self._current: tuple[Task, Queue] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._ready)

    def open_session(
        self, session_id: int, name: str, tenant: str = "", *, exact: bool = True
    ) -> None:
        """Makes a session.

        Args:
            session_id: What `call` knows it by.
            name: `sessions/{session}`.
            tenant: Whose it is.
            exact: Whether its training steps are torch's own, to the last bit.
        """
        self._activate(None)
        session = Session(
            name,
            device=self._device,
            limits=self._limits,
            storage=self._storage,
            tenant=tenant,
            quotas=self._quotas,
            exact=exact,
            compiling=self._compiling,
            replaying=self._replaying,
            known=self._known.setdefault(tenant, KnownPrograms()),
        )
        self._queues[session_id] = Queue(session, tenant)
        self._holdings.add(tenant, session.budget)

    def close_session(self, session_id: int) -> None:
        """Forgets a session; its calls fail with SESSION_NOT_FOUND.

        Its memory is given back at once if it is much, or if few sessions live; else with that of
        the next ones that end, or with the next look at the figures.
        """
        queue = self._queues.pop(session_id, None)
        if queue is None or queue.session is None:
            return
        session = queue.session
        self._ended_bytes += session.budget.measure()
        self._num_ended += 1
        self._holdings.remove(queue.tenant, session.budget)
        self._figures.counters["training_steps"][queue.tenant] += session.num_steps
        if self._active is session:
            self._active = None
        if self._current is not None and self._current[1] is queue:
            self._current = None
        if queue.ready:
            self._ready.remove(queue)
        for lane in queue.lanes:
            for task in lane:
                task.fail(
                    GradwireError(Reason.SESSION_NOT_FOUND, f"{session.name} was deleted meanwhile")
                )
        session.close()
        del session, queue
        if self._ended_bytes > ENDED_BYTES or self._num_ended * ENDED_SHARE > len(self._queues):
            self._return_memory()

    def _return_memory(self) -> None:
        """Gives back what sessions that have ended leave behind.

        That looks at all objects of all sessions: at the end of each, the end of many would take
        as long as their number squared.
        """
        self._ended_bytes = self._num_ended = 0
        gc.collect()
        _return_free_memory(self._device)

    def open_region(self, session_id: int, number: int, memory: mmap) -> None:
        """Gives a session memory that its client has, too; a session that is gone needs none."""
        queue = self._queues.get(session_id)
        if queue is not None and queue.session is not None:
            queue.session.regions.add(number, memory)

    def close_region(self, session_id: int, number: int) -> None:
        """Takes memory from a session that its client has no more."""
        queue = self._queues.get(session_id)
        if queue is not None and queue.session is not None:
            queue.session.regions.remove(number)

    def call(
        self, call: int, session_id: int, method: str, payload: bytes, trace: str = ""
    ) -> None:
        """Takes a call in; it is answered in its turn.

        Args:
            call: What answers are marked with.
            session_id: The session; 0 for calls that belong to none.
            method: The RPC's name, such as `Forward`.
            payload: The serialized request.
            trace: The trace context of the call; empty if it is not traced.
        """
        try:
            self._enqueue(call, session_id, method, payload, Timing(method, trace))
        except GradwireError as error:
            self._answers.fail(call, error)

    def cancel(self, call: int) -> None:
        """Gives a call up if it waits, or at its next step if it is a run.

        Messages of an Execute stream are not given up: their place in the order is taken.
        """
        for queue in (self._shared, *self._queues.values()):
            for lane in queue.lanes:
                for task in lane:
                    if task.call == call and not isinstance(task, ExecuteTask):
                        self._remove(task, lane, queue)
                        task.fail(GradwireError(Reason.CANCELLED, "the caller gave the call up"))
                        return

    def log_context(self) -> dict[str, str]:
        """Returns what is known of the command in progress, or the last one, for logs."""
        if self._current is None:
            return {}
        task, queue = self._current
        name = "" if queue.session is None else queue.session.name
        return {
            "method": task.timing.kind,
            "session": log_name(name),
            "tenant": queue.tenant,
            "trace": trace_id(task.timing.trace),
        }

    def figures(self, elsewhere: Mapping[str, int]) -> dict[str, Any]:
        """Returns how the worker is doing, in JSON's terms.

        Args:
            elsewhere: What tenants hold on other workers, in bytes; from now on that counts too.
        """
        self._holdings.elsewhere = elsewhere
        if self._num_ended:
            self._return_memory()
        figures = self._figures.to_json()
        steps = figures["counters"]["training_steps"]
        sessions = {}
        for number, queue in self._queues.items():
            if queue.session is not None:
                steps[queue.tenant] += queue.session.num_steps
                sessions[number] = {
                    "bytes": queue.session.budget.measure(),
                    "steps": queue.session.num_steps,
                    "waiting": sum(len(lane) for lane in queue.lanes),
                }
        return {
            **figures,
            "sessions": sessions,
            "device": device_figures(self._device),
        }

    def turn(self) -> None:
        """Gives the next tenant's next session its turn: one command, or one step of a run.

        Small ones follow in the same turn: of a message, or of a run, as many as begin within
        `SHARED_TURN_SECONDS`; `TURN_SECONDS` while nobody else waits.
        """
        queue = self._ready.take()
        self._activate(queue.session)
        lane = queue.ready.popleft()
        task = lane[0]
        self._current = (task, queue)
        task.timing.begin_turn()
        if queue.session is None:
            more = task.advance()
        else:
            alone = not self._ready and not queue.ready and not queue.parked
            until = time.monotonic() + (TURN_SECONDS if alone else SHARED_TURN_SECONDS)
            queue.session.turn_until, queue.session.wait_until = until, until if alone else 0.0
            if task.call != queue.last_call and not isinstance(task, ExecuteTask):
                queue.session.version += 1
            queue.last_call = task.call
            self._ceiling.lower(queue.session.budget.room_bytes())
            try:
                more = task.advance()
                while more and isinstance(task, ExecuteTask) and queue.session.has_time():
                    task.timing.end_turn(self._figures)
                    task.timing.begin_turn()
                    more = task.advance()
            finally:
                self._ceiling.lift()
                queue.session.end_turn()
                queue.session.budget.grow(self._ceiling.growth_bytes())
        task.timing.end_turn(self._figures)
        if not more:
            done = lane.popleft()
            if lane is queue.commands and queue.session and done.method not in UNCHANGING:
                queue.session.num_commands += 1
        queue.put_back(lane)
        if queue.ready:
            self._ready.add(queue)

    def _remove(self, task: Task, lane: Lane, queue: Queue) -> None:
        was_ready = bool(queue.ready)
        if len(lane) == 1:
            queue.remove(lane)
        lane.remove(task)
        if was_ready and not queue.ready:
            self._ready.remove(queue)

    def _activate(self, session: Session | None) -> None:
        if session is self._active:
            return
        if self._active is not None:
            self._active.deactivate()
        if session is not None:
            session.activate()
        self._active = session

    def _enqueue(
        self, call: int, session_id: int, method: str, payload: bytes, timing: Timing
    ) -> None:
        if method == "GetCatalog":
            parse(server_pb2.GetCatalogRequest, payload, timing)
            queue = self._shared
            task = self._handled(UnaryTask, call, catalog_response, timing)
        else:
            found = self._queues.get(session_id)
            if found is None or found.session is None:
                raise GradwireError(Reason.SESSION_NOT_FOUND, "the session was deleted")
            queue = found
            task = self._session_task(call, found.session, method, payload, timing)
        ordered = not isinstance(task, WaitingTask | StreamTask)
        lane: Lane = queue.commands if ordered else deque()
        lane.append(task)
        if len(lane) == 1:
            queue.ready.append(lane)
            if len(queue.ready) == 1:
                self._ready.add(queue)

    def _session_task(
        self, call: int, session: Session, method: str, payload: bytes, timing: Timing
    ) -> Task:
        if method == "Execute":
            return ExecuteTask(call, session, payload, self._answers, timing, watch=self._watch)
        verb = SESSION_VERBS[method]
        return self._handled(
            _TASKS[type(verb)],
            call,
            lambda: verb.handler(session, parse(verb.request, payload, timing)),
            timing,
        )

    def _handled(
        self, kind: type[HandlerTask[Any]], call: int, handler: Callable[[], Any], timing: Timing
    ) -> Task:
        return kind(
            call,
            handler,
            self._answers,
            timing=timing,
            limit_bytes=self._limits.max_message_bytes,
            watch=self._watch,
        )


_TASKS: dict[type, type[HandlerTask[Any]]] = {
    Unary: UnaryTask,
    Lasting: LastingTask,
    Waiting: WaitingTask,
    Streaming: StreamTask,
}
"""How the calls of each kind of verb are carried out."""


def _return_free_memory(device: torch.device) -> None:
    """Gives freed memory back to the operating system, so that others can have it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        log.debug("this C library has no malloc_trim; freed memory stays with the process")
