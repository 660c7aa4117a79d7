"""One run: what its worker tells of it, kept and passed on."""

import asyncio

import structlog

from gradwire.v1 import errors_pb2, runs_pb2
from gradwire.v1.events import entries
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.runs.log import EventLog
from gradwire_server.runs.record import Record
from gradwire_server.sessions.answers import failure_of
from gradwire_server.sessions.session import Session
from gradwire_server.storage import CheckpointStore, Storage
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, PendingStream

log = structlog.get_logger(__name__)

_GIVEN_UP = {Reason.CANCELLED, Reason.SESSION_NOT_FOUND}


class Run:
    """A run of this server.

    Args:
        storage: Where its events and checkpoints are.
        record: What is known of it.

    Attributes:
        record: What is known of it.
        events: Its events.
        session: Where it is; none while it is nowhere.
        pause_reason: Why it rests, once it does.
        cancel_on_disconnect: Whether it is cancelled when its caller is gone.
    """

    def __init__(self, storage: Storage, record: Record) -> None:
        self.record = record
        self.events = EventLog(storage, record.run.name)
        self.session: Session | None = None
        self.pause_reason = "PAUSED"
        self.cancel_on_disconnect = False
        self.was_lost = False
        """Whether its worker died, and it has not gone on since."""
        self.recovering = False
        """Whether it is being brought back."""
        self.task: asyncio.Task[None] | None = None
        """What takes in what its worker tells."""
        self._storage = storage
        self._named_by: dict[str, int] = {}
        self._dropping: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """``runs/{run}``."""
        return self.record.run.name

    def follow(self, stream: PendingStream) -> None:
        """Takes in what its worker tells, from now on."""
        self.was_lost = False
        self.task = asyncio.create_task(self._follow(stream))

    def tell(self, **event: object) -> None:
        """Adds an event, given by its field, to the log."""
        self.take(runs_pb2.RunEvent(**event))  # type: ignore[arg-type]

    def take(self, event: runs_pb2.RunEvent) -> None:
        """Adds an event to the log."""
        dropped: list[str] = []
        if event.HasField("checkpoint"):
            dropped = self.record.choose_dropped(event.checkpoint)
        self.events.append(event)
        self.record.take(event)
        if event.HasField("checkpoint"):
            for checkpoint in entries(event.checkpoint):
                self._named_by[checkpoint.name] = event.number
        if dropped:
            self._drop(dropped)

    def fail(self, error: GradwireError, failure: bytes = b"") -> None:
        """Ends the run with an error."""
        run = self.record.run
        cancelled = error.reason in _GIVEN_UP
        self.tell(
            ended=runs_pb2.RunEnded(
                num_steps=run.step,
                mean_loss=run.mean_loss,
                elapsed_seconds=run.elapsed_seconds,
                state=runs_pb2.RUN_STATE_CANCELLED if cancelled else runs_pb2.RUN_STATE_FAILED,
                reason=error.reason.value,
                failure=errors_pb2.Failure.FromString(
                    failure or error.to_status().SerializeToString()
                ),
            )
        )

    async def save(self) -> None:
        """Writes events and record; a storage that refuses the record is logged."""
        await self.events.flush()
        try:
            await asyncio.to_thread(self.record.save, self._storage)
        except GradwireError as error:
            log.error("the record of a run can't be written", run=self.name, error=error.message)

    async def settle(self) -> None:
        """Does what is to be done when a run has ended."""
        await self.save()
        self.events.close()

    async def _follow(self, stream: PendingStream) -> None:
        try:
            async for frame in stream:
                self._take_frame(frame)
        except LinkLostError:
            self.was_lost = True
            return
        if not self.record.ended:
            self.tell(
                state_change=runs_pb2.RunStateChange(
                    state=runs_pb2.RUN_STATE_PAUSED,
                    reason=self.pause_reason,
                    step=self.record.run.step,
                )
            )
        log.info(
            "run stopped",
            run=self.name,
            state=runs_pb2.RunState.Name(self.record.run.state),
            reason=self.record.run.reason,
        )

    def _take_frame(self, frame: Frame) -> None:
        if frame.kind is FrameKind.EVENT:
            self.take(runs_pb2.RunEvent.FromString(frame.payload))
        elif frame.kind is FrameKind.FAILURE:
            self.fail(failure_of(frame), frame.payload)

    def _drop(self, names: list[str]) -> None:
        """Deletes checkpoints that the policy gives up, once the log says so.

        Those that the log does not name yet go at once, lest they fill a storage that it waits for.
        """
        task = asyncio.create_task(self._delete(names))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    async def _delete(self, names: list[str]) -> None:
        store = CheckpointStore(self._storage)
        number = self.events.last_number
        for name in sorted(names, key=lambda name: self._named_by.get(name, 0), reverse=True):
            if self._named_by.pop(name, 0) <= number:
                await self.events.flush()
            try:
                await asyncio.to_thread(store.delete, name)
            except GradwireError as error:
                log.warning("a checkpoint can't be deleted", checkpoint=name, error=error.message)
