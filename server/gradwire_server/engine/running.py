"""The verbs on runs: Train, ResumeRun, CancelRun and PauseRun."""

from gradwire.v1 import runs_pb2
from gradwire_server.engine.session import Session
from gradwire_server.engine.training import TrainingRun, Turns
from gradwire_server.errors import GradwireError, Reason


def train(session: Session, request: runs_pb2.TrainRequest) -> Turns:
    """Begins a run and follows it to its end; yields after each batch the events to send.

    The model is in training mode until the run ends; then the mode of each of its modules is what
    it was before.

    Raises:
        GradwireError: The request is malformed, a step failed, or the model was deleted.
    """
    run = TrainingRun(session, request)
    if run.name:
        session.runs[run.name] = run
    yield from _kept(session, run, run.begin(session))


def resume_run(session: Session, request: runs_pb2.ResumeRunRequest) -> Turns:
    """Goes on with a run that rests in the session."""
    run = find_run(session, request.name)
    yield from _kept(session, run, run.resume(session, request.reported_steps))


def _kept(session: Session, run: TrainingRun, turns: Turns) -> Turns:
    """Passes events on; a run that fails or is given up is forgotten, one that pauses is not."""
    try:
        yield from turns
    except BaseException:
        session.runs.pop(run.name, None)
        run.close(session)
        raise


def cancel_run(session: Session, request: runs_pb2.CancelRunRequest) -> runs_pb2.CancelRunResponse:
    """Ends a run after the step it is in."""
    find_run(session, request.name).wish = "cancel"
    return runs_pb2.CancelRunResponse()


def pause_run(session: Session, request: runs_pb2.PauseRunRequest) -> runs_pb2.PauseRunResponse:
    """Lets a run rest after the step it is in."""
    find_run(session, request.name).wish = "pause"
    return runs_pb2.PauseRunResponse()


def find_run(session: Session, name: str) -> TrainingRun:
    """Returns a run of the session that has not ended.

    Raises:
        GradwireError: RUN_NOT_FOUND.
    """
    run = session.runs.get(name)
    if run is None:
        raise GradwireError(
            Reason.RUN_NOT_FOUND, f"there is no {name} in {session.name}", metadata={"run": name}
        )
    return run
