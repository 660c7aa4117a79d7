"""The checkpoints of a run: when one is written, and what of that is told."""

import time
from typing import Any, NamedTuple

from gradwire.v1 import runs_pb2
from gradwire_server.engine.averages import MovingAverage
from gradwire_server.engine.drafts import KnownParts, draft_checkpoint
from gradwire_server.engine.keeping import require_client_state
from gradwire_server.engine.progress import Progress
from gradwire_server.engine.recipe import Recipe
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import Optional, register
from gradwire_server.engine.writing import Writing
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.storage.checkpoints import checkpoint_name, expiry

RETRY_SECONDS = 10.0
"""How long a run waits after a checkpoint that could not be written; it warns of the first only."""


class _Underway(NamedTuple):
    """A checkpoint that is being written."""

    writing: Writing
    name: str
    step: int
    best: bool


@register
class Saver:
    """Writes the checkpoints of a run, one at a time, while the run goes on.

    Args:
        session: The session.
        request: Names the run, and what its client wants to find again.
        recipe: The recipe.
        progress: Where it is told.

    Raises:
        GradwireError: What the client wants to find again is too large, or not there.
    """

    def __init__(
        self, session: Session, request: runs_pb2.TrainRequest, recipe: Recipe, progress: Progress
    ) -> None:
        require_client_state(request.client_state)
        self._run = request.run
        self._recipe = recipe
        self._progress = progress
        self._client_state = request.client_state
        self._kept = Optional(
            (handle, session.value(handle, f"kept_handles[{index}]"))
            for index, handle in enumerate(request.kept_handles)
        )
        self._step = self._noted_step = -1
        self._written_at = 0.0
        self._retry_at = 0.0
        self._refused = False
        self._known: KnownParts = {}
        self._underway: _Underway | None = None

    def __getstate__(self) -> dict[str, Any]:
        passing = {"_written_at": 0.0, "_retry_at": 0.0, "_known": {}, "_underway": None}
        return {**vars(self), **passing}

    def begin(self) -> None:
        """Begins to count the time, or goes on after a rest or from a checkpoint."""
        self._written_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether the recipe wants one of this step, whatever else is."""
        recipe = self._recipe
        if (
            recipe.checkpoint_every_steps
            and not self._progress.step % recipe.checkpoint_every_steps
        ):
            return True
        passed = time.monotonic() - self._written_at
        return bool(recipe.checkpoint_every_seconds) and passed >= recipe.checkpoint_every_seconds

    def is_able(self) -> bool:
        """Whether it is to be tried, or was refused a moment ago."""
        return time.monotonic() >= self._retry_at

    def forget(self) -> None:
        """Lets one be written of this step once more."""
        self._step = -1

    def write(
        self,
        session: Session,
        values: dict[str, float],
        average: MovingAverage | None,
        *,
        best: bool = False,
    ) -> None:
        """Begins to write a checkpoint if the run keeps some and has none of this step.

        Args:
            session: The session, which is the active one. None may be under way.
            values: Those of the last evaluation.
            average: The moving average of the weights, if there is one.
            best: Whether it is the best.

        Raises:
            GradwireError: The first one of the run could not be written.
        """
        recipe, step = self._recipe, self._progress.step
        self._written_at = time.monotonic()
        keeps = recipe.keeps_checkpoints and self._run
        if not keeps or self._progress.was_told("checkpoint", step) or self._step == step:
            return
        assert self._underway is None
        before, self._step = self._step, step
        name = checkpoint_name(self._run.removeprefix("runs/"), step)
        try:
            draft = draft_checkpoint(
                session,
                name,
                kept=self._kept if average is None else {**self._kept, **average.kept()},
                client_state=self._client_state,
                known=self._known,
                run=self._run,
                step=step,
                values=values,
                expire_seconds=expiry(recipe.checkpoint_ttl_seconds),
            )
        except GradwireError as error:
            self._step = before
            self._refuse(step, error)
            return
        self._underway = _Underway(Writing(session, draft), name, step, best)

    def is_written(self, until: float) -> bool:
        """Returns whether no checkpoint is under way; waits for it until a time at most.

        Args:
            until: A time of the monotonic clock.

        Raises:
            GradwireError: The first one of the run could not be written.
        """
        underway = self._underway
        if underway is None:
            return True
        writing, name, step, best = underway
        if not writing.wait(until):
            return False
        self._underway = None
        try:
            manifest = writing.result()
        except GradwireError as error:
            self._step = -1
            self._refuse(step, error)
            return True
        self._refused = False
        if self._noted_step < step:
            self._noted_step = step
            self._progress.note(
                "checkpoint",
                step=step,
                name=name,
                num_bytes=manifest.num_bytes,
                best=best,
                keep_last=self._recipe.keep_last,
            )
        return True

    def abandon(self) -> None:
        """Lets nothing stay of the checkpoint that is under way."""
        if self._underway is not None:
            self._underway.writing.abandon()
            self._underway = None

    def _refuse(self, step: int, error: GradwireError) -> None:
        """Warns of the first checkpoint that could not be written."""
        if not step and error.reason is not Reason.NO_CHECKPOINT:
            raise error
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._refused:
            message = f"no checkpoint was written at step {step}: {error.message}"
            self._progress.note("warning", step=step, reason=error.reason.value, message=message)
        self._refused = True
