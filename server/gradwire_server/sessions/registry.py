"""The sessions there are: created, found, listed, ended, expired, lost."""

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import structlog

from gradwire.v1 import checkpoints_pb2, sessions_pb2
from gradwire_server.access.identity import caller
from gradwire_server.access.quotas import Quota, Quotas
from gradwire_server.errors import GradwireError, invalid
from gradwire_server.limits import Limits
from gradwire_server.sessions.answers import failure_of
from gradwire_server.sessions.names import (
    make_session_name,
    session_lost,
    session_not_found,
    session_part,
)
from gradwire_server.sessions.once import OnceOnly
from gradwire_server.sessions.placement import Placement
from gradwire_server.sessions.regions import Regions
from gradwire_server.sessions.session import Session
from gradwire_server.storage import Manifest
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, WorkerLink
from gradwire_server.workers.pool import Worker, WorkerPool

log = structlog.get_logger(__name__)

MAX_DISPLAY_NAME_LENGTH = 128
MAX_LOST_NAMES = 10_000
"""How many names of lost sessions are remembered."""


async def _done() -> None:
    """Does nothing."""


async def _no_session(_name: str, _owner: str) -> Session | None:
    """Finds none."""
    return None


class _Gone(NamedTuple):
    """Why a session is gone, and whose it was."""

    error: GradwireError
    owner: str


class SessionRegistry:
    """Holds all sessions of the server. A session of another tenant than the caller's is not there.

    Args:
        pool: Where sessions are placed.
        limits: The limits in force.
        quotas: What tenants may use; the quotas among `limits` if none are given.
    """

    def __init__(self, pool: WorkerPool, limits: Limits, quotas: Quotas | None = None) -> None:
        self.limits = limits
        self.quotas = quotas or Quotas(limits)
        self.regions = Regions(limits, self.quotas)
        self._requests = OnceOnly()
        self.placement = Placement(pool)
        self._sessions: dict[str, Session] = {}
        self._gone: OrderedDict[str, _Gone] = OrderedDict()
        self._numbers = itertools.count(1)
        self.num_created = 0
        self.num_lost = 0
        self._num_repeated = 0
        self._closing: set[asyncio.Task[None]] = set()
        pool.on_lost.append(self._lose)
        self.on_worker_lost: Callable[[Session], bool] = lambda _: False
        """Called with each session whose worker died; returns whether the session moves."""
        self.has_runs: Callable[[Session], bool] = lambda _: False
        """Tells whether there are runs in a session that have not ended."""
        self.bring_back: Callable[[str, str], Awaitable[Session | None]] = _no_session
        """Returns a session by its name and owner, which may be parked; None if there is none."""

    def __len__(self) -> int:
        return len(self._sessions)

    def has(self, name: str) -> bool:
        """Whether there is a session of that name."""
        return name in self._sessions

    @property
    def num_repeated(self) -> int:
        """How many requests and messages came again and were answered as the first time."""
        return (
            self._num_repeated
            + self._requests.num_repeated
            + sum(session.num_repeated for session in self._sessions.values())
        )

    def all(self) -> tuple[Session, ...]:
        """Returns all sessions, whoever sees them; for what the server does by itself."""
        return tuple(self._sessions.values())

    def get(self, name: str) -> Session:
        """Returns the session that a resource is in.

        Raises:
            GradwireError: INVALID_REQUEST, SESSION_NOT_FOUND or SESSION_LOST.
        """
        # Most requests name a model; the session's part is found without a regular expression.
        session = self._sessions.get(name) or self._sessions.get("/".join(name.split("/", 2)[:2]))
        if session is None or not caller().sees(session.owner):
            raise self._absent(session_part(name))
        return session

    async def once(
        self,
        request_id: str,
        method: str,
        payload: bytes,
        start: Callable[[], Coroutine[Any, Any, Frame]],
    ) -> Frame:
        """Carries out a request that belongs to no session; once, if it has a request id.

        Raises:
            GradwireError: See `OnceOnly.run`.
        """
        if not request_id:
            return await start()
        return await self._requests.run(request_id, method, payload, start, owner=caller().tenant)

    async def create(
        self, *, device: str = "", display_name: str = "", exact: bool = True
    ) -> Session:
        """Makes a session on the least loaded worker; waits for a worker to be ready.

        Raises:
            GradwireError: See `Placement.choose`; LIMIT_EXCEEDED if there are too many sessions.
        """
        if len(display_name) > MAX_DISPLAY_NAME_LENGTH:
            raise invalid(
                "display_name",
                f"has {len(display_name)} characters; {MAX_DISPLAY_NAME_LENGTH} at most",
            )
        tenant = caller().tenant
        self.quotas.take(Quota.SESSIONS, tenant)
        try:
            while True:
                worker = await self.placement.choose(device)
                with contextlib.suppress(LinkLostError):
                    return await self._open(worker, display_name, exact=exact)
        except BaseException:
            self.quotas.give_back(Quota.SESSIONS, tenant)
            raise

    async def restore(
        self,
        checkpoint: Manifest,
        *,
        name: str = "",
        device: str = "",
        continues: bool = True,
        answers: bytes = b"",
    ) -> tuple[Session, Frame]:
        """Makes a session with the state of a checkpoint.

        Args:
            checkpoint: The checkpoint.
            name: The session's name; a new one if empty.
            device: The device wanted.
            continues: Whether the session goes on with its runs and its stream; else it is a new
                one that has the same values.
            answers: What it answered before, if it continues; see `Session.answers`.

        Returns:
            The session, and the worker's REPLY or FAILURE; after a failure the session has ended.

        Raises:
            GradwireError: See `create`.
        """
        owner = checkpoint.tenant if continues else caller().tenant
        self.quotas.take(Quota.SESSIONS, owner)
        try:
            session = await self._open_for(
                checkpoint, name, device, owner, continues=continues, answers=answers
            )
        except BaseException:
            self.quotas.give_back(Quota.SESSIONS, owner)
            raise
        session.held_runs = frozenset(checkpoint.run_steps if continues else ())
        return session, await self._fill(session, checkpoint, continues=continues)

    async def _open_for(
        self,
        checkpoint: Manifest,
        name: str,
        device: str,
        owner: str,
        *,
        continues: bool,
        answers: bytes,
    ) -> Session:
        while True:
            worker = await self.placement.choose(device)
            with contextlib.suppress(LinkLostError):
                return await self._open(
                    worker,
                    checkpoint.display_name,
                    name=name,
                    owner=owner,
                    exact=checkpoint.exact,
                    num_commands=checkpoint.num_commands if continues else 0,
                    last_seq=checkpoint.last_seq if continues else 0,
                    answers=answers,
                )

    async def revive(
        self,
        session: Session,
        checkpoint: Manifest,
        *,
        consume: Callable[[], Awaitable[None]] | None = None,
    ) -> Frame:
        """Gives a session that has no worker the state of a checkpoint, on a worker.

        Args:
            session: The session.
            checkpoint: The checkpoint.
            consume: Awaited before the session goes on.

        Returns:
            The new worker's REPLY or FAILURE; after a failure the session still has no worker.

        Raises:
            GradwireError: See `Placement.choose`.
        """
        while True:
            worker = await self.placement.choose(session.worker.device)
            assert worker.link is not None
            opened = self._make(
                worker,
                session.display_name,
                name=session.name,
                owner=session.owner,
                exact=session.exact,
                number=next(self._numbers),
            )
            with contextlib.suppress(LinkLostError):
                await self._open_on_worker(opened)
                frame = await self._fill(opened, checkpoint, continues=True)
                if frame.kind is not FrameKind.FAILURE:
                    try:
                        if consume is not None:
                            await consume()
                    except BaseException:
                        self._end(opened)
                        raise
                    await self.regions.move(session, opened.number, opened.link)
                    session.number = opened.number
                    session.attach(worker, opened.link)
                return frame

    async def _fill(self, session: Session, checkpoint: Manifest, *, continues: bool) -> Frame:
        """Gives a session on a worker the state of a checkpoint."""
        request = checkpoints_pb2.RestoreCheckpointRequest(
            name=checkpoint.name, continues=continues
        )
        frame = Frame(
            kind=FrameKind.CALL,
            session=session.number,
            method="RestoreCheckpoint",
            payload=request.SerializeToString(),
        )
        reply = await session.link.call(frame).reply
        if reply.kind is FrameKind.FAILURE:
            self._end(session)
        return reply

    async def call_in_new(self, method: str, payload: bytes) -> Frame:
        """Carries out a unary RPC in a session made for it, which goes again if the call fails.

        Raises:
            GradwireError: See `create` and `Session.call`.
        """
        session = await self.create()
        try:
            frame = await session.call(method, "", payload)
        except BaseException:
            self._end(session)
            raise
        if frame.kind is FrameKind.FAILURE:
            self._end(session)
        return frame

    async def delete(self, name: str, *, keep_runs: bool = False) -> None:
        """Ends a session and waits until its memory is given back.

        Args:
            name: The session.
            keep_runs: Whether it stays as long as there are runs in it.

        Raises:
            GradwireError: INVALID_REQUEST or SESSION_NOT_FOUND.
        """
        part = session_part(name)
        if part != name:
            raise invalid("name", f'"{name[:200]}" is not of the form sessions/{{session}}')
        gone = self._gone.get(name)
        if gone is not None and caller().sees(gone.owner):
            del self._gone[name]
            return
        session = self._sessions.get(name)
        if session is None or not caller().sees(session.owner):
            raise session_not_found(name)
        if keep_runs and self.has_runs(session):
            session.ends_with_runs = True
            return
        await asyncio.shield(self._end(session))
        log.info("session deleted", session=session.log_name, worker=session.worker.id)

    def page(self, *, page_size: int, after: int) -> list[Session]:
        """Returns up to `page_size` sessions that the caller sees, numbered above `after`."""
        later = (session for session in self.visible() if session.number > after)
        return list(itertools.islice(later, page_size))

    def visible(self) -> Iterator[Session]:
        """Yields the sessions that the caller sees, oldest first."""
        who = caller()
        return (session for session in self._sessions.values() if who.sees(session.owner))

    def end_all(self, error: GradwireError) -> None:
        """Ends all sessions with an error, without telling their workers."""
        for session in self._sessions.values():
            session.end(error)
            if session.parked is None:
                self.quotas.give_back(Quota.SESSIONS, session.owner)
        self._sessions.clear()

    async def _open(self, worker: Worker, display_name: str, **state: Any) -> Session:
        """Opens a session on a worker and holds it.

        Raises:
            LinkLostError: The worker died meanwhile.
        """
        session = self._make(worker, display_name, number=next(self._numbers), **state)
        await self._open_on_worker(session)
        self._sessions[session.name] = session
        self.num_created += 1
        self._gone.pop(session.name, None)
        log.info(
            "session created", session=session.log_name, worker=worker.id, tenant=session.owner
        )
        return session

    def _make(
        self,
        worker: Worker,
        display_name: str,
        *,
        name: str = "",
        owner: str | None = None,
        **state: Any,
    ) -> Session:
        assert worker.link is not None
        return Session(
            name=name or make_session_name(),
            worker=worker,
            link=worker.link,
            limits=self.limits,
            owner=caller().tenant if owner is None else owner,
            display_name=display_name,
            **state,
        )

    async def _open_on_worker(self, session: Session) -> None:
        session.worker.num_sessions += 1
        opened = sessions_pb2.Session(name=session.name, tenant=session.owner, exact=session.exact)
        frame = Frame(
            kind=FrameKind.OPEN_SESSION,
            session=session.number,
            payload=opened.SerializeToString(),
        )
        try:
            reply = await asyncio.shield(session.link.call(frame).reply)
            if reply.kind is FrameKind.FAILURE:
                raise failure_of(reply)
        except BaseException:
            self._end(session)
            raise
        if session.link.lost:
            raise LinkLostError

    async def end(self, session: Session, error: GradwireError | None = None) -> None:
        """Ends a session and waits until its memory is given back.

        Args:
            session: The session.
            error: What its callers are told from now on; as for one that was deleted by default.
        """
        if error is not None:
            self._remember(session, error)
        await asyncio.shield(self._end(session, error))

    async def park(self, session: Session, checkpoint: Manifest, wake: Callable[[], None]) -> None:
        """Takes a session, whose calls wait, from its worker; it has its state in a checkpoint.

        Args:
            session: The session.
            checkpoint: The checkpoint.
            wake: Called when a command wants it back.
        """
        session.parked = checkpoint
        session.leave_worker(wake)
        self.quotas.give_back(Quota.SESSIONS, session.owner)
        await self._close(session)

    def _end(self, session: Session, error: GradwireError | None = None) -> "asyncio.Task[None]":
        """Ends a session now; the task is done when its memory is given back."""
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
            self._num_repeated += session.num_repeated
            if session.parked is None:
                self.quotas.give_back(Quota.SESSIONS, session.owner)
        session.end(error or session_not_found(session.name))
        task = asyncio.create_task(_done() if session.parked else self._close(session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _close(self, session: Session) -> None:
        frame = Frame(kind=FrameKind.CLOSE_SESSION, session=session.number)
        # If the worker is gone, so is what the session held.
        with contextlib.suppress(LinkLostError):
            await session.link.call(frame).reply
            session.worker.num_sessions -= session.link is session.worker.link

    def _lose(self, _: Worker, link: WorkerLink) -> None:
        """Ends all sessions of a worker's process that died."""
        for session in [held for held in self._sessions.values() if held.link is link]:
            if session.parked is not None:
                continue
            if self.on_worker_lost(session):
                session.leave_worker()
            else:
                self.lose(session)

    def lose(self, session: Session) -> None:
        """Ends a session because its worker died."""
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
            self.quotas.give_back(Quota.SESSIONS, session.owner)
            self._num_repeated += session.num_repeated
            self.num_lost += 1
        error = session_lost(session.name, session.worker.id)
        self._remember(session, error)
        session.end(error)
        log.warning("session lost", session=session.log_name, worker=session.worker.id)

    def _remember(self, session: Session, error: GradwireError) -> None:
        """Has callers be told why a session is gone, the latest of them."""
        self._gone[session.name] = _Gone(error, session.owner)
        while len(self._gone) > MAX_LOST_NAMES:
            self._gone.popitem(last=False)

    def _absent(self, name: str) -> GradwireError:
        gone = self._gone.get(name)
        if gone is None or not caller().sees(gone.owner):
            return session_not_found(name)
        return gone.error.with_traceback(None)
