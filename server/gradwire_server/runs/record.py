"""What is known of a run: its state, taken from its events, and a record of it in the storage."""

import json
from dataclasses import dataclass, field

from google.protobuf import json_format

from gradwire.v1 import runs_pb2
from gradwire.v1.events import entries
from gradwire_server.errors import Reason
from gradwire_server.storage import Storage

ENDED = frozenset(
    {runs_pb2.RUN_STATE_SUCCEEDED, runs_pb2.RUN_STATE_FAILED, runs_pb2.RUN_STATE_CANCELLED}
)
SERVER_STOPPED = "SERVER_STOPPED"
"""The reason of a run that rests because its server was stopped; it goes on with the next."""


@dataclass(kw_only=True)
class Record:
    """A run, as far as it is known.

    Attributes:
        run: What callers are told of it.
        session: The session it is in, or was in last.
        owner: Which server process runs it.
        tenant: Whose it is.
        request_id: The id of the request that began it, if it had one.
        digest: The hash of that request, in hexadecimal digits.
        reported_steps: Up to which step there are events, by their kinds.
        best: The best checkpoint, if one is kept for that.
    """

    run: runs_pb2.Run
    session: str
    owner: str
    tenant: str
    request_id: str = ""
    digest: str = ""
    reported_steps: dict[str, int] = field(default_factory=dict)
    best: str = ""
    num_stuck: int = field(default=0)
    """How often the run went on from a checkpoint since it wrote one."""

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.run.state in ENDED

    def take(self, event: runs_pb2.RunEvent) -> None:
        """Takes over what an event tells."""
        run = self.run
        kind = event.WhichOneof("event")
        run.last_event = max(run.last_event, event.number)
        match kind:
            case "created":
                run.name = event.created.name
                run.create_time.CopyFrom(event.time)
                run.state = runs_pb2.RUN_STATE_QUEUED
            case "started":
                run.state = runs_pb2.RUN_STATE_RUNNING
                run.num_steps = event.started.num_steps
                run.num_epochs = event.started.num_epochs
                run.steps_per_epoch = event.started.steps_per_epoch
                run.device = event.started.device
                run.exact = event.started.exact
            case "progress":
                progress = event.progress
                run.step, run.epoch = progress.step, progress.epoch
                run.mean_loss = progress.mean_loss
                run.elapsed_seconds = progress.elapsed_seconds
                self.reported_steps[kind] = progress.step
            case "validation":
                run.validation.clear()
                run.validation.update(event.validation.values)
                self.reported_steps[kind] = event.validation.step
            case "warning":
                # What the front itself warns of is no event of a step.
                if event.warning.reason != Reason.CHECKPOINT_CORRUPT:
                    self.reported_steps[kind] = event.warning.step
            case "checkpoint":
                for checkpoint in entries(event.checkpoint):
                    self._take_checkpoint(checkpoint)
                self.reported_steps[kind] = event.checkpoint.step
            case "state_change":
                run.state, run.reason = event.state_change.state, event.state_change.reason
            case "ended":
                ended = event.ended
                run.state, run.reason = ended.state, ended.reason
                run.elapsed_seconds = ended.elapsed_seconds or run.elapsed_seconds
                run.end_time.CopyFrom(event.time)

    def choose_dropped(self, event: runs_pb2.RunCheckpoint) -> list[str]:
        """Says in an event of checkpoints which the policy gives up for each; returns them all."""
        names, best = list(self.run.checkpoints), self.best
        dropped: list[str] = []
        for checkpoint in entries(event):
            names = [name for name in names if name != checkpoint.name]
            names.append(checkpoint.name)
            best = checkpoint.name if checkpoint.best else best
            kept = {*names[-max(checkpoint.keep_last, 1) :], best}
            checkpoint.dropped.extend(name for name in names if name not in kept)
            dropped += checkpoint.dropped
            names = [name for name in names if name in kept]
        return dropped

    def _take_checkpoint(self, checkpoint: runs_pb2.RunCheckpoint) -> None:
        gone = {*checkpoint.dropped, checkpoint.name}
        kept = [name for name in self.run.checkpoints if name not in gone]
        del self.run.checkpoints[:]
        self.run.checkpoints.extend([*kept, checkpoint.name])
        self.num_stuck = 0
        if checkpoint.best:
            self.best = checkpoint.name

    def save(self, storage: Storage) -> None:
        """Writes the record; blocks."""
        fields = {
            "run": json_format.MessageToDict(self.run),
            "session": self.session,
            "owner": self.owner,
            "tenant": self.tenant,
            "request_id": self.request_id,
            "digest": self.digest,
        }
        storage.write(_name(self.run.name), json.dumps(fields, indent=1).encode())

    @classmethod
    def load(cls, storage: Storage, run: str) -> "Record":
        """Reads a record; blocks.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is malformed.
        """
        fields = json.loads(storage.read(_name(run)))
        message = json_format.ParseDict(fields.pop("run"), runs_pb2.Run())
        return cls(run=message, **fields)


def stored_runs(storage: Storage) -> list[str]:
    """Returns the names of the runs that have a record; blocks."""
    names = (stored.name for stored in storage.list("runs"))
    return [name.removesuffix("/run.json") for name in names if name.endswith("/run.json")]


def _name(run: str) -> str:
    return f"{run}/run.json"
