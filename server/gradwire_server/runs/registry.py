"""All runs of the server: begun, found, ended, and brought back after a crash."""

import asyncio
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from hashlib import sha256
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from gradwire.v1 import runs_pb2
from gradwire_server.access.identity import caller
from gradwire_server.access.quotas import Quota
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.runs.owner import RENEW_SECONDS, Owner
from gradwire_server.runs.record import SERVER_STOPPED, Record, stored_runs
from gradwire_server.runs.recovery import recover
from gradwire_server.runs.run import Run
from gradwire_server.sessions.once import request_changed
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.sessions.session import Session
from gradwire_server.storage import CheckpointStore, Storage
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError

log = structlog.get_logger(__name__)

PAUSE_TIMEOUT_SECONDS = 20.0
"""How long runs may take to rest when the server stops."""


class RefusedError(Exception):
    """A worker refused to begin a run.

    Args:
        frame: Its FAILURE.
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__("the worker refused the run")
        self.frame = frame


class RunRegistry:
    """Holds all runs.

    Args:
        storage: Where they are kept.
        sessions: The sessions they are in.
        resumes: Whether runs that an earlier server left go on with this one.
    """

    def __init__(self, storage: Storage, sessions: SessionRegistry, *, resumes: bool) -> None:
        self._storage = storage
        self._sessions = sessions
        self._resumes = resumes
        self._owner = Owner(storage)
        self._runs: dict[str, Run] = {}
        self._ended: dict[str, Record] = {}
        self._others: dict[str, Record] = {}
        self._requests: dict[tuple[str, str], tuple[str, asyncio.Task[Run]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        sessions.on_worker_lost = self._move
        sessions.has_runs = lambda session: bool(self.of_session(session))

    # ---- what callers ask for ----------------------------------------------------------------

    async def begin(self, session: Session, request_id: str, payload: bytes) -> Run:
        """Begins a run, or finds the one begun under the same request id.

        Raises:
            RefusedError: The worker refused it.
            GradwireError: The session has ended, the storage failed, or the request id was used
                for another request.
        """
        if not request_id:
            return await self._begin(session, "", "", payload)
        key, digest = (session.name, request_id), sha256(payload).hexdigest()
        known = self._requests.get(key)
        if known is None:
            task = asyncio.create_task(self._begin(session, request_id, digest, payload))
            known = self._requests[key] = (digest, task)
            task.add_done_callback(lambda task: self._forget_refused(key, task))
        if known[0] != digest:
            raise request_changed("request_id", request_id)
        return await asyncio.shield(known[1])

    def get(self, name: str) -> Run:
        """Returns a run of this server.

        Raises:
            GradwireError: RUN_NOT_FOUND.
        """
        run = self._runs.get(name)
        if run is None or not caller().sees(run.record.tenant):
            raise _not_found(name)
        return run

    def record(self, name: str) -> Record:
        """Returns what is known of a run, also of one that an earlier server ended.

        Raises:
            GradwireError: RUN_NOT_FOUND.
        """
        run = self._runs.get(name)
        record = run.record if run is not None else self._ended.get(name, self._others.get(name))
        if record is None or not caller().sees(record.tenant):
            raise _not_found(name)
        return record

    def all(self) -> list[Record]:
        """Returns all that is known, newest first, whoever sees it."""
        own = (run.record for run in self._runs.values())
        records = [*self._ended.values(), *self._others.values(), *own]
        return sorted(records, key=lambda r: r.run.create_time.ToNanoseconds(), reverse=True)

    def records(self) -> list[Record]:
        """Returns all that the caller sees, newest first."""
        who = caller()
        return [record for record in self.all() if who.sees(record.tenant)]

    async def open(self, name: str) -> Run:
        """Returns a run, with its events; reads those of one that an earlier server ended.

        Raises:
            GradwireError: RUN_NOT_FOUND.
        """
        record = self.record(name)
        if name in self._others and record.run.state != runs_pb2.RUN_STATE_PAUSED:
            raise GradwireError(
                Reason.NOT_READY,
                f"{name} has another server, or waits for this one to take it over; try again "
                "shortly.",
                retry_after_seconds=RENEW_SECONDS,
            )
        if name not in self._runs:
            run = Run(self._storage, record)
            await run.events.load()
            run.events.close()
            return run
        return self.get(name)

    async def cancel(self, name: str) -> Record:
        """Ends a run after the step it is in."""
        record = self.record(name)
        if record.ended:
            return record
        run = self.get(name)
        if not await self._ask(run, "CancelRun") and not record.ended:
            # It rests, or waits for a worker.
            run.fail(GradwireError(Reason.CANCELLED, f"{name} was cancelled"))
            await run.settle()
        return record

    def cancel_soon(self, name: str) -> None:
        """Begins to end a run, whose caller has gone."""
        self._spawn(self._cancel(name))

    async def _cancel(self, name: str) -> None:
        await self.cancel(name)

    async def pause(self, name: str) -> Record:
        """Lets a run rest after the step it is in."""
        record = self.record(name)
        if record.ended:
            raise _ended(name)
        run = self.get(name)
        run.pause_reason = "PAUSED"
        await self._ask(run, "PauseRun")
        return record

    async def resume(self, name: str) -> Record:
        """Lets a run that rests go on."""
        record = self.record(name)
        if record.ended:
            raise _ended(name)
        if name not in self._runs:
            await self._adopt(record)
        run = self.get(name)
        if record.run.state == runs_pb2.RUN_STATE_PAUSED:
            if run.session is None or run.session.ended is not None:
                await self._recover(None, [run], "RESUMED")
            else:
                await self._go_on(run, "RESUMED", record.run.step)
        return record

    async def delete(self, name: str) -> None:
        """Forgets a run that has ended, its events and its checkpoints."""
        record = self.record(name)
        if not record.ended:
            raise GradwireError(
                Reason.RUN_STATE,
                f"{name} has not ended; cancel it first",
                metadata={"run": name},
            )
        run = self._runs.pop(name, None)
        if run is not None and run.task is not None:
            await run.task
        self._ended.pop(name, None)
        store = CheckpointStore(self._storage)
        await asyncio.to_thread(store.delete_series, name.removeprefix("runs/"))
        await asyncio.to_thread(self._storage.delete_all, name)

    def of_session(self, session: Session) -> list[Run]:
        """Returns the runs in a session that have not ended."""
        return [r for r in self._runs.values() if r.session is session and not r.record.ended]

    # ---- the life of the server --------------------------------------------------------------

    async def load(self) -> None:
        """Finds out which runs there are, and begins to go on with those that servers have left."""
        try:
            await self._scan()
        except GradwireError as error:
            log.error("the runs in the storage can't be read", error=error.message)

    async def keep_looking(self) -> None:
        """Shows that this server lives, and looks for runs that have no server, again and again."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.load()

    async def stop(self) -> None:
        """Lets all runs rest, to go on with the next server."""
        self._stopping = True
        running = [run for run in self._runs.values() if not run.record.ended]
        for run in running:
            if run.record.run.state == runs_pb2.RUN_STATE_RUNNING:
                run.pause_reason = SERVER_STOPPED
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_TIMEOUT_SECONDS):
                await asyncio.gather(*(self._rest(run) for run in running))
        for task in self._tasks:
            task.cancel()

    async def resign(self) -> None:
        """Leaves all runs to other servers; their sessions must be parked by now."""
        with suppress(GradwireError):
            await asyncio.to_thread(self._owner.resign)

    async def _rest(self, run: Run) -> None:
        with suppress(GradwireError):
            await self._ask(run, "PauseRun")
        if run.task is not None:
            await run.task
        await run.save()

    async def _scan(self) -> None:
        """Shows that this server lives, and looks for runs that have no server."""
        if any(not run.record.ended for run in self._runs.values()):
            await asyncio.to_thread(self._owner.renew)
        known = {*self._runs, *self._ended}
        orphans: dict[str, list[Record]] = {}
        for name in await asyncio.to_thread(stored_runs, self._storage):
            if name in known:
                continue
            try:
                record = await asyncio.to_thread(Record.load, self._storage, name)
            except (ValueError, FileNotFoundError) as error:
                log.warning("the record of a run can't be read", run=name, error=str(error))
                continue
            if record.ended:
                self._others.pop(name, None)
                self._ended[name] = record
                continue
            self._others[name] = record
            if not (self._resumes and self._is_left(record)):
                continue
            if await asyncio.to_thread(self._owner.is_gone, record.owner):
                orphans.setdefault(record.session, []).append(record)
        for records in orphans.values():
            await self._take_over(records)

    @staticmethod
    def _is_left(record: Record) -> bool:
        """Whether a run goes on by itself."""
        rests = record.run.state == runs_pb2.RUN_STATE_PAUSED
        return not rests or record.run.reason == SERVER_STOPPED

    async def _take_over(self, records: list[Record]) -> None:
        await asyncio.to_thread(self._owner.renew)
        runs = [run for record in records if not (run := await self._adopt(record)).record.ended]
        if runs:
            self._begin_recovery(None, runs, "SERVER_RESTARTED")

    async def _adopt(self, record: Record) -> Run:
        """Takes a run over; its events say how far it is."""
        run = Run(self._storage, record)
        for event in await run.events.load():
            record.take(event)
        record.owner = self._owner.id
        self._others.pop(run.name, None)
        self._runs[run.name] = run
        await run.save()
        if record.ended:
            run.events.close()
        log.info("run taken over", run=run.name, step=record.run.step)
        return run

    # ---- beginning and going on --------------------------------------------------------------

    async def _begin(self, session: Session, request_id: str, digest: str, payload: bytes) -> Run:
        name = f"runs/{secrets.token_hex(6)}"
        own = runs_pb2.TrainRequest(run=name).SerializeToString()
        began: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        record = Record(
            run=runs_pb2.Run(name=name, device=session.worker.device),
            session=session.name,
            owner=self._owner.id,
            tenant=session.owner,
            request_id=request_id,
            digest=digest,
        )
        self._spawn(self._carry(session, record, "Train", payload + own, began))
        return await began

    async def _carry(
        self,
        session: Session,
        record: Record,
        method: str,
        payload: bytes,
        began: "asyncio.Future[Run]",
    ) -> None:
        """Carries a new run out, as long as its worker lives."""
        run = Run(self._storage, record)
        run.session = session
        quotas = self._sessions.quotas
        try:
            with quotas.holding(Quota.RUNS, session.owner):
                async with session.stream(method, payload) as stream:
                    try:
                        frame = await anext(stream)
                        if frame.kind is FrameKind.FAILURE:
                            raise RefusedError(frame)
                        try:
                            await self._record(run, frame)
                        except GradwireError:
                            # Its first checkpoint is there already.
                            await self._drop_checkpoints(run.name)
                            raise
                    except BaseException:
                        stream.cancel()
                        raise
                    began.set_result(run)
                    run.follow(stream)
                    assert run.task is not None
                    await run.task
        except LinkLostError:
            if not began.done():
                began.set_exception(session.lost())
        except Exception as error:  # it is the caller's, if it still waits
            if began.done():
                raise
            began.set_exception(error)
        await self._after(run)

    async def _drop_checkpoints(self, run: str) -> None:
        store = CheckpointStore(self._storage)
        try:
            await asyncio.to_thread(store.delete_series, run.removeprefix("runs/"))
        except GradwireError as error:
            log.warning("checkpoints can't be deleted", run=run, error=error.message)

    async def _record(self, run: Run, frame: Frame) -> None:
        """Makes a run durable, which has just begun."""
        try:
            started = runs_pb2.RunEvent.FromString(frame.payload)
        except DecodeError as error:
            raise GradwireError(Reason.INTERNAL, f"the worker sent no event: {error}") from error
        run.record.run.display_name = started.started.display_name
        run.cancel_on_disconnect = started.started.cancel_on_disconnect
        created = runs_pb2.RunEvent(created=runs_pb2.RunCreated(name=run.name))
        if not self._runs:
            await asyncio.to_thread(self._owner.renew)
        await run.events.write_first([created, started])
        for event in (created, started):
            run.record.take(event)
        await asyncio.to_thread(run.record.save, self._storage)
        self._runs[run.name] = run
        log.info("run began", run=run.name, session=run.record.session[:17])

    async def _go_on(self, run: Run, reason: str, step: int) -> None:
        """Lets a run go on that is in its session, from a step on."""
        session = run.session
        assert session is not None
        request = runs_pb2.ResumeRunRequest(name=run.name, reported_steps=run.record.reported_steps)
        run.tell(
            state_change=runs_pb2.RunStateChange(
                state=runs_pb2.RUN_STATE_RUNNING, reason=reason, step=step
            )
        )
        self._spawn(self._carry_on(session, run, request.SerializeToString()))

    async def _carry_on(self, session: Session, run: Run, payload: bytes) -> None:
        async with session.stream("ResumeRun", payload) as stream:
            run.follow(stream)
            assert run.task is not None
            await run.task
        await self._after(run)

    async def _after(self, run: Run) -> None:
        """Does what is to be done when a worker no longer carries a run out."""
        if run.record.ended:
            await run.settle()
            session = run.session
            if session is not None and session.ends_with_runs and not self.of_session(session):
                await self._sessions.end(session)
        elif run.was_lost and not run.recovering and not self._stopping:
            # Its worker died before the run was known; its session is lost already.
            self._begin_recovery(run.session, [run], "WORKER_DIED")
        elif run.record.run.last_event and not run.was_lost:
            await run.save()

    # ---- workers that died -------------------------------------------------------------------

    def _move(self, session: Session) -> bool:
        """Begins to bring back a session whose worker died, if it has runs to bring back."""
        runs = [
            run
            for run in self.of_session(session)
            if run.record.run.state != runs_pb2.RUN_STATE_PAUSED
        ]
        if not runs or self._stopping:
            return False
        self._begin_recovery(session, runs, "WORKER_DIED")
        return True

    def _begin_recovery(self, session: Session | None, runs: list[Run], reason: str) -> None:
        for run in runs:
            run.recovering = True
        self._spawn(self._recover(session, runs, reason))

    async def _recover(self, session: Session | None, runs: list[Run], reason: str) -> None:
        for run in runs:
            if run.task is not None:
                await run.task
        going_on = []
        try:
            going_on = await recover(self._storage, self._sessions, session, runs, reason=reason)
        except GradwireError as error:
            log.info("runs stay queued", runs=[run.name for run in runs], why=error.message)
        for run, step in going_on:
            await self._go_on(run, reason, step)
        for run in runs:
            run.recovering = False
            await run.save()
            if run.record.ended:
                run.events.close()

    # ---- helpers -----------------------------------------------------------------------------

    async def _ask(self, run: Run, method: str) -> bool:
        """Asks the worker of a run for something; returns whether the worker has the run."""
        session = run.session
        if session is None or session.ended is not None or session.is_moving:
            return False
        if run.record.run.state == runs_pb2.RUN_STATE_PAUSED:
            return False
        request = runs_pb2.CancelRunRequest(name=run.name).SerializeToString()
        frame = await session.call(method, "", request)
        if frame.kind is FrameKind.FAILURE:
            return False
        if run.task is not None:
            await run.task
        return True

    def _forget_refused(self, key: tuple[str, str], task: "asyncio.Task[Run]") -> None:
        if task.cancelled() or task.exception() is not None:
            del self._requests[key]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a run's task failed", exc_info=error)


def _not_found(name: str) -> GradwireError:
    return GradwireError(
        Reason.RUN_NOT_FOUND,
        f"there is no {name[:200]}: it was deleted, or never began; ListRuns lists those there are",
        metadata={"run": name[:200]},
    )


def _ended(name: str) -> GradwireError:
    return GradwireError(Reason.RUN_STATE, f"{name} has ended", metadata={"run": name})
