"""Parked sessions: kept in a checkpoint, with no worker, until their next command.

Sessions are parked when they were idle for long, and all of them when the server stops, for the
next one on the same storage. The checkpoint's series is a hash of the session's name, which is not
for everybody to know. The checkpoint goes before the session goes on: a session is never found as
it was some commands ago.
"""

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import structlog

from gradwire.v1 import checkpoints_pb2
from gradwire_server.access.identity import Caller, caller, enter_call
from gradwire_server.access.quotas import Quota
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.sessions.answers import failure_of
from gradwire_server.sessions.names import session_part
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.sessions.session import Session
from gradwire_server.storage import CheckpointStore, Manifest, Storage
from gradwire_server.storage.checkpoints import ANSWERS, checkpoint_name, expiry
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError

log = structlog.get_logger(__name__)

LONGEST_SWEEP_SECONDS = 30.0

LONGEST_STEP_SECONDS = 5.0
"""A session of which nothing came for so long is not amid a step of a program that runs."""

_USELESS = {Reason.CHECKPOINT_CORRUPT, Reason.CHECKPOINT_NOT_FOUND}
"""Why a session can't be brought back, now or later."""


class Parking:
    """Parks sessions and brings them back.

    Args:
        sessions: The sessions.
        storage: Where their checkpoints are.
    """

    def __init__(self, sessions: SessionRegistry, storage: Storage) -> None:
        self._sessions = sessions
        self._store = CheckpointStore(storage)
        self._ttl_seconds = sessions.limits.parked_session_ttl_seconds
        self._idle_seconds = sessions.limits.session_idle_timeout_seconds
        self._returning: dict[str, asyncio.Task[Session]] = {}
        self._failing: WeakSet[Session] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        sessions.bring_back = self.bring_back

    # ---- finding -----------------------------------------------------------------------------

    async def find(self, name: str) -> Session:
        """Returns the session that a resource is in; one that an earlier server parked, too.

        Raises:
            GradwireError: See `SessionRegistry.get`; or the session can't be brought back.
        """
        try:
            return self._sessions.get(name)
        except GradwireError as error:
            if error.reason is not Reason.SESSION_NOT_FOUND:
                raise
            manifest = await self.stored(session_part(name))
            if manifest is None:
                raise
        returning = self._returning.get(manifest.session)
        if returning is None:
            returning = asyncio.create_task(self._return(manifest))
            self._returning[manifest.session] = returning
            returning.add_done_callback(lambda _: self._returning.pop(manifest.session))
        return await asyncio.shield(returning)

    async def bring_back(self, name: str, owner: str) -> Session | None:
        """Returns a session for the sake of its runs, which may be parked; None if there is none.

        Args:
            name: The session.
            owner: Whose it is.

        Raises:
            GradwireError: It can't be brought back now.
        """
        # Who makes the call in progress may be another.
        return await asyncio.create_task(self._bring_back(name, owner))

    async def _bring_back(self, name: str, owner: str) -> Session | None:
        enter_call(Caller(tenant=owner))
        try:
            session = await self.find(name)
            await session.settled()
        except GradwireError as error:
            if error.reason in {*_USELESS, Reason.SESSION_NOT_FOUND, Reason.SESSION_LOST}:
                return None
            raise
        return session if session.ended is None else None

    async def stored(self, name: str) -> Manifest | None:
        """Returns the checkpoint of a session of the caller that an earlier server parked."""
        if not self._ttl_seconds:
            return None
        for manifest in await asyncio.to_thread(self._store.list, _series(name)):
            if manifest.parked and manifest.session == name and caller().sees(manifest.tenant):
                return manifest
        return None

    async def delete(self, name: str, *, keep_runs: bool = False) -> None:
        """Ends a session, parked or not, and waits until its memory is given back.

        Raises:
            GradwireError: See `SessionRegistry.delete`.
        """
        parked = [s.parked for s in self._sessions.visible() if s.name == name and s.parked]
        try:
            await self._sessions.delete(name, keep_runs=keep_runs)
        except GradwireError as error:
            manifest = await self.stored(name) if error.reason is Reason.SESSION_NOT_FOUND else None
            if manifest is None:
                raise
            parked = [manifest]
        if not self._sessions.has(name):
            for manifest in parked:
                await self._discard(manifest.name)

    async def _return(self, manifest: Manifest) -> Session:
        """Makes a session again that an earlier server parked."""
        answers = b""
        for part in manifest.parts:
            if part.kind == ANSWERS:
                answers = await asyncio.to_thread(self._store.read_part, manifest.name, part)
        while True:
            try:
                session, frame = await self._sessions.restore(
                    manifest, name=manifest.session, answers=answers
                )
            except LinkLostError:
                continue
            break
        if frame.kind is FrameKind.FAILURE:
            raise failure_of(frame)
        try:
            await asyncio.to_thread(self._store.delete, manifest.name)
        except BaseException:
            await self._sessions.end(session)
            raise
        log.info("session is back", session=session.log_name, worker=session.worker.id)
        return session

    # ---- parking -----------------------------------------------------------------------------

    async def park(self, session: Session, *, leaving: bool = False) -> GradwireError | None:
        """Parks a session of which nothing is pending; returns why if it can't be.

        Args:
            session: The session.
            leaving: Whether it has to go; else a command that comes meanwhile calls it off.
        """
        wanted = asyncio.Event()
        session.leave_worker(None if leaving else wanted.set)
        name = checkpoint_name(_series(session.name), time.time_ns() // 1_000_000)
        request = checkpoints_pb2.Checkpoint(name=name, display_name=session.display_name)
        request.expire_time.FromNanoseconds(int(expiry(self._ttl_seconds) * 1e9))
        frame = Frame(
            kind=FrameKind.CALL,
            session=session.number,
            method="ParkSession",
            payload=request.SerializeToString(),
        )
        try:
            reply = await session.link.call(frame).reply
            if reply.kind is FrameKind.FAILURE:
                raise failure_of(reply)
            manifest = await asyncio.to_thread(self._store.read, name)
        except LinkLostError:
            return None  # it is lost with its worker
        except GradwireError as error:
            if session.ended is None:
                session.attach(session.worker, session.link)
            return error
        if session.ended is not None or wanted.is_set() or session.link.lost:
            await self._discard(name)
            if session.ended is None:
                session.attach(session.worker, session.link)
            return None
        for handle, why in manifest.left_out.items():
            log.warning("value not kept", session=session.log_name, handle=handle, why=why)
        await self._sessions.park(session, manifest, lambda: self._spawn(self._wake(session)))
        log.info("session parked", session=session.log_name, checkpoint=name)
        return None

    async def keep_sweeping(self) -> None:
        """Parks sessions that were idle for too long, again and again."""
        while self._idle_seconds:
            await asyncio.sleep(min(LONGEST_SWEEP_SECONDS, self._idle_seconds / 4))
            await asyncio.gather(*(self._look_after(each) for each in self._sessions.all()))

    async def keep_expiring(self, interval_seconds: float) -> None:
        """Deletes checkpoints whose time is over, again and again."""
        while True:
            try:
                if num_expired := await asyncio.to_thread(self._store.expire):
                    log.info("checkpoints expired", number=num_expired)
            except GradwireError as error:
                log.warning("checkpoints can't be looked through", error=error.message)
            await asyncio.sleep(interval_seconds)

    async def park_all(self, error: GradwireError, patience_seconds: float) -> None:
        """Parks all sessions, each once nothing of it is pending, and ends them with an error.

        Args:
            error: What their callers are told.
            patience_seconds: For how long a session that is used may go on to the end of its step.
        """
        end = time.monotonic() + patience_seconds
        await asyncio.gather(*(self._leave(each, error, end) for each in self._sessions.all()))

    async def _leave(self, session: Session, error: GradwireError, patient_until: float) -> None:
        if self._ttl_seconds and session.parked is None:
            await self._come_to_rest(session, patient_until)
            failure = None if session.ended else await self.park(session, leaving=True)
            if failure is not None:
                log.warning("session not kept", session=session.log_name, why=failure.message)
        session.leave_worker()
        await session.quiet()
        if session.parked is not None:
            await self._keep_answers(session, session.parked)
        session.end(error)

    async def _keep_answers(self, session: Session, manifest: Manifest) -> None:
        """Puts what a session answered beside its state: callers may not have got it."""
        answers = session.answers()
        try:
            if answers:
                await asyncio.to_thread(self._store.add_part, manifest, ANSWERS, answers)
        except GradwireError as error:
            log.warning("answers not kept", session=session.log_name, why=error.message)

    async def _come_to_rest(self, session: Session, patient_until: float) -> None:
        """Waits until nothing of a session is pending, and lets it end the step it is amid."""
        while True:
            session.leave_worker()
            await session.quiet()
            left = min(
                patient_until - time.monotonic(), LONGEST_STEP_SECONDS - session.idle_seconds
            )
            if session.ended is not None or left <= 0 or await self._rests(session):
                return
            session.attach(session.worker, session.link)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await session.next_command()

    async def _rests(self, session: Session) -> bool:
        """Whether a checkpoint would hold all that the session does; so if it has no worker."""
        frame = Frame(kind=FrameKind.CALL, session=session.number, method="RequireRest")
        try:
            reply = await session.link.call(frame).reply
        except LinkLostError:
            return True
        return reply.kind is not FrameKind.FAILURE or failure_of(reply).reason is not (
            Reason.NOT_READY
        )

    async def _look_after(self, session: Session) -> None:
        """Parks a session if its time has come; ends it if that fails for as long again."""
        if session.parked is not None:
            if session.parked.is_expired:
                log.info("parked session expired", session=session.log_name)
                await self._sessions.end(session)
            return
        if session.idle_seconds <= self._idle_seconds or session.is_moving:
            return
        if not self._ttl_seconds:
            log.info("session expired", session=session.log_name, worker=session.worker.id)
            await self._sessions.end(session)
            return
        failure = await self.park(session)
        if failure is None:
            self._failing.discard(session)
            return
        if session.idle_seconds > 2 * self._idle_seconds:
            log.error("idle session ended", session=session.log_name, why=failure.message)
            await self._sessions.end(session, _not_kept(session.name, failure))
        elif session not in self._failing:
            self._failing.add(session)
            log.warning(
                "idle session can't be parked, and ends if that remains so",
                session=session.log_name,
                why=failure.message,
                end_seconds=2 * self._idle_seconds - session.idle_seconds,
            )

    # ---- bringing back -----------------------------------------------------------------------

    async def _wake(self, session: Session) -> None:
        """Brings a parked session back, which a command waits for."""
        manifest = session.parked
        assert manifest is not None
        session.leave_worker()
        quotas = self._sessions.quotas
        try:
            quotas.take(Quota.SESSIONS, session.owner)
            try:
                await self._revive(session, manifest)
            except BaseException:
                quotas.give_back(Quota.SESSIONS, session.owner)
                raise
        except GradwireError as error:
            if error.reason in _USELESS:
                log.error("session can't be brought back", session=session.log_name, why=str(error))
                await self._sessions.end(session, _not_kept(session.name, error))
            elif session.ended is None:
                session.leave_worker(lambda: self._spawn(self._wake(session)))
                session.refuse(error)

    async def _revive(self, session: Session, manifest: Manifest) -> None:
        frame = await self._sessions.revive(
            session,
            manifest,
            consume=lambda: asyncio.to_thread(self._store.delete, manifest.name),
        )
        if frame.kind is FrameKind.FAILURE:
            raise failure_of(frame)
        log.info("session is back", session=session.log_name, worker=session.worker.id)

    async def _discard(self, checkpoint: str) -> None:
        try:
            await asyncio.to_thread(self._store.delete, checkpoint)
        except GradwireError as error:
            log.warning("checkpoint can't be deleted", checkpoint=checkpoint, error=error.message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _series(name: str) -> str:
    """Returns what the checkpoints are called of a parked session."""
    return f"session_{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _not_kept(name: str, why: GradwireError) -> GradwireError:
    return GradwireError(
        Reason.SESSION_NOT_FOUND,
        f"There is no session {name} any more: it had no command for so long that it was to be "
        f"parked, and it could not be kept: {why.message} Create a new one with CreateSession.",
        metadata={"session": name},
    )
