"""Bringing runs back from their checkpoints, and with them the session they were in."""

import asyncio

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


async def recover(
    storage: Storage,
    sessions: SessionRegistry,
    session: Session | None,
    runs: list[Run],
    *,
    reason: str,
) -> list[Run]:
    """Restores the session of runs from their newest checkpoint that is whole.

    A session that its client still uses goes on with its name only if the checkpoint holds all
    that was done in it. Otherwise its client is told that it is lost, rather than to find it as it
    was some commands ago, and the runs go on in a session of their own.

    Args:
        storage: Where the checkpoints are.
        sessions: Where the session is to be.
        session: The session, if this server has it; its worker died.
        runs: The runs that were in it.
        reason: Why, for their events.

    Returns:
        The runs that can go on; the others have failed.

    Raises:
        GradwireError: SHUTTING_DOWN; the runs are queued, for the next server.
    """
    for run in runs:
        run.record.num_stuck += 1
        run.record.run.num_recoveries += 1
        run.session = None
        run.tell(
            state_change=runs_pb2.RunStateChange(
                state=runs_pb2.RUN_STATE_QUEUED, reason=reason, step=run.record.run.step
            )
        )
    going_on = [run for run in runs if _may_go_on(run)]
    manifest = None
    if going_on:
        manifest, session = await _restore(storage, sessions, session, going_on)
    if session is not None and (manifest is None or session.is_moving):
        sessions.lose(session)
    for run in list(going_on):
        if manifest is None:
            going_on.remove(run)
            run.fail(
                GradwireError(
                    Reason.RUN_LOST,
                    f"the worker that {run.name} ran on has ended, and none of its checkpoints "
                    "could be used",
                )
            )
        else:
            assert session is not None
            run.session = session
            run.record.session = session.name
            run.record.run.device = session.worker.device
    return going_on


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
    """Returns the checkpoint that was restored, and the session that has its state now."""
    for manifest in await asyncio.to_thread(_candidates, storage, runs):
        try:
            restored, frame = await _try(sessions, session, manifest)
        except (GradwireError, LinkLostError) as error:
            if isinstance(error, GradwireError) and error.reason is Reason.SHUTTING_DOWN:
                raise
            log.warning("restoring failed", checkpoint=manifest.name, error=str(error))
            continue
        if frame.kind is not FrameKind.FAILURE:
            if session is not None and restored is not session:
                sessions.lose(session)
            return manifest, restored
        failure = failure_of(frame)
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
    is_whole = session is not None and session.num_commands == manifest.num_commands
    if session is not None and is_whole and session.ended is None:
        return session, await sessions.revive(session, manifest)
    name = manifest.session if session is None and not sessions.has(manifest.session) else ""
    return await sessions.restore(manifest, name=name)


def _candidates(storage: Storage, runs: list[Run]) -> list[Manifest]:
    """Returns the checkpoints of runs whose manifest is whole, newest first; blocks."""
    store = CheckpointStore(storage)
    manifests = []
    for name in {name for run in runs for name in run.record.run.checkpoints}:
        try:
            manifests.append(store.read(name))
        except GradwireError as error:
            log.warning("checkpoint can't be used", checkpoint=name, error=error.message)
    return sorted(manifests, key=lambda manifest: manifest.create_seconds, reverse=True)
