"""Bringing runs back from their checkpoints, and with them the session they were in."""

import asyncio
from typing import NamedTuple

import structlog

from gradwire.v1 import runs_pb2
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.runs.run import Run
from gradwire_server.sessions.answers import failure_of
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.sessions.session import Session
from gradwire_server.storage import CheckpointStore, Manifest, Storage
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError

log = structlog.get_logger(__name__)

MAX_STUCK = 3
"""After so many recoveries without a new checkpoint a run is given up: it kills its workers."""
RETRY_SECONDS = 2.0
"""After what time it is tried again to bring runs back that wait for room."""
_PASSING = {
    Reason.LIMIT_EXCEEDED,
    Reason.OUT_OF_MEMORY,
    Reason.NOT_READY,
    Reason.STORAGE_FAILED,
}
"""Why runs can't be brought back now; they wait."""


class Going(NamedTuple):
    """A run that can go on, and the step that it goes on from."""

    run: Run
    step: int


async def recover(
    storage: Storage,
    sessions: SessionRegistry,
    session: Session | None,
    runs: list[Run],
    *,
    reason: str,
) -> list[Going]:
    """Restores the session of runs, from what an earlier server parked or their newest checkpoint.

    A session that its client still uses goes on with its name only if the checkpoint holds all
    that was done in it. Otherwise its client is told that it is lost, rather than to find it as it
    was some commands ago, and the runs go on in a session of their own. Where there is no room
    for it now, the runs wait for that.

    Args:
        storage: Where the checkpoints are.
        sessions: Where the session is to be.
        session: The session, if this server has it; its worker died.
        runs: The runs that were in it.
        reason: Why, for their events.

    Returns:
        The runs that can go on; the others have ended.

    Raises:
        GradwireError: SHUTTING_DOWN; the runs are queued, for the next server.
    """
    for run in runs:
        run.record.num_stuck += 1
        run.record.run.num_recoveries += 1
        run.session = None
        _queue(run, reason)
    while True:
        left = [run for run in runs if not run.record.ended]
        try:
            return await _recover_now(storage, sessions, session, left)
        except GradwireError as error:
            if error.reason not in _PASSING:
                raise
            log.info("runs wait", runs=[run.name for run in left], why=error.message)
            for run in left:
                if not run.record.ended and run.record.run.reason != error.reason:
                    _queue(run, error.reason.value)
        await asyncio.sleep(RETRY_SECONDS)


def _queue(run: Run, reason: str) -> None:
    run.tell(
        state_change=runs_pb2.RunStateChange(
            state=runs_pb2.RUN_STATE_QUEUED, reason=reason, step=run.record.run.step
        )
    )


async def _recover_now(
    storage: Storage, sessions: SessionRegistry, session: Session | None, runs: list[Run]
) -> list[Going]:
    """Does what `recover` does, if there is room."""
    going_on: list[Going] = []
    if session is None and runs:
        record = runs[0].record
        parked = await sessions.bring_back(record.session, record.tenant)
        if parked is not None:
            going_on = [Going(r, r.record.run.step) for r in runs if r.name in parked.held_runs]
            for run, _ in going_on:
                _place(run, parked)
            runs = [run for run in runs if run.session is None]
    possible = [run for run in runs if _may_go_on(run)]
    manifest = None
    if possible:
        manifest, session = await _restore(storage, sessions, session, possible)
    if session is not None and session.ended is None and (manifest is None or session.is_moving):
        sessions.lose(session)
    for run in possible:
        if manifest is None:
            run.fail(
                GradwireError(
                    Reason.RUN_LOST,
                    f"the worker that {run.name} ran on has ended, and none of its checkpoints "
                    "could be used",
                )
            )
        else:
            assert session is not None
            _place(run, session)
            going_on.append(Going(run, manifest.run_steps.get(run.name, manifest.step)))
    return going_on


def _place(run: Run, session: Session) -> None:
    run.session = session
    run.record.session = session.name
    run.record.run.device = session.worker.device


def _may_go_on(run: Run) -> bool:
    if run.record.ended:
        return False
    if not run.record.run.checkpoints:
        why = "it kept no checkpoints"
    elif run.record.num_stuck > MAX_STUCK:
        why = f"that happened {MAX_STUCK} times since its last checkpoint, so it is given up"
    else:
        return True
    run.fail(
        GradwireError(
            Reason.RUN_LOST,
            f"the worker that {run.name} ran on has ended, and {why}",
            metadata={"run": run.name},
        )
    )
    return False


async def _restore(
    storage: Storage, sessions: SessionRegistry, session: Session | None, runs: list[Run]
) -> tuple[Manifest | None, Session | None]:
    """Returns the checkpoint that was restored, and the session that has its state now.

    Raises:
        GradwireError: That is not possible now.
    """
    for manifest in await asyncio.to_thread(_candidates, storage, runs):
        try:
            restored, frame = await _try(sessions, session, manifest)
        except (GradwireError, LinkLostError) as error:
            if isinstance(error, GradwireError) and error.reason in {
                *_PASSING,
                Reason.SHUTTING_DOWN,
            }:
                raise
            log.warning("restoring failed", checkpoint=manifest.name, error=str(error))
            continue
        if frame.kind is not FrameKind.FAILURE:
            return manifest, restored
        failure = failure_of(frame)
        if failure.reason in _PASSING:
            raise failure
        log.warning("checkpoint can't be used", checkpoint=manifest.name, error=failure.message)
        for run in runs:
            if run.name == manifest.run:
                run.record.run.checkpoints.remove(manifest.name)
                run.tell(
                    warning=runs_pb2.RunWarning(
                        reason=failure.reason.value,
                        message=f"{failure.message} The one before is used.",
                        step=run.record.run.step,
                    )
                )
    return None, session


async def _try(
    sessions: SessionRegistry, session: Session | None, manifest: Manifest
) -> tuple[Session, Frame]:
    if session is not None and session.ended is None:
        if session.num_commands == manifest.num_commands:
            return session, await sessions.revive(session, manifest)
        # No older checkpoint holds more. It gives its room to the session that takes its place.
        sessions.lose(session)
    name = manifest.session if session is None and not sessions.has(manifest.session) else ""
    return await sessions.restore(manifest, name=name)


def _candidates(storage: Storage, runs: list[Run]) -> list[Manifest]:
    """Returns the checkpoints of runs whose manifest is whole, newest first; blocks.

    Raises:
        GradwireError: The storage can't be read.
    """
    store = CheckpointStore(storage)
    manifests = []
    for name in {name for run in runs for name in run.record.run.checkpoints}:
        try:
            manifests.append(store.read(name))
        except GradwireError as error:
            if error.reason in _PASSING:
                raise
            log.warning("checkpoint can't be used", checkpoint=name, error=error.message)
    return sorted(manifests, key=lambda manifest: manifest.create_seconds, reverse=True)
