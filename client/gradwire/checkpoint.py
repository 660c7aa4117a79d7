"""What is known of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gradwire.v1 import checkpoints_pb2

PREFIX = "checkpoints/"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a session at one moment, in the storage of a server.

    Attributes:
        name: ``checkpoints/{checkpoint}``; what `gradwire.restore` takes.
        display_name: A name for people.
        num_bytes: Its bytes.
        create_time: When it was written.
        expire_time: When it is deleted; None for never.
        run: The run that wrote it, ``runs/{run}``; empty if none did.
        step: Of a run: steps taken by then.
        values: Of a run: the values of the last evaluation, by name.
        left_out: Values of the session that are not in it: why, by handle.
        gradwire_version: The version of gradwire that wrote it.
        torch_version: The version of torch that wrote it.
    """

    name: str
    display_name: str
    num_bytes: int
    create_time: datetime
    expire_time: datetime | None
    run: str
    step: int
    values: Mapping[str, float]
    left_out: Mapping[int, str]
    gradwire_version: str
    torch_version: str

    @classmethod
    def of(cls, message: checkpoints_pb2.Checkpoint) -> "Checkpoint":
        """Returns the checkpoint of a message."""
        expires = message.HasField("expire_time")
        return cls(
            name=message.name,
            display_name=message.display_name,
            num_bytes=message.num_bytes,
            create_time=message.create_time.ToDatetime(UTC),
            expire_time=message.expire_time.ToDatetime(UTC) if expires else None,
            run=message.run,
            step=message.step,
            values=dict(message.values),
            left_out=dict(message.left_out),
            gradwire_version=message.gradwire_version,
            torch_version=message.torch_version,
        )

    def __str__(self) -> str:
        return self.name


def full_name(checkpoint: Checkpoint | str) -> str:
    """Returns the name of a checkpoint, of which the last part may be given."""
    name = str(checkpoint)
    return name if name.startswith(PREFIX) else PREFIX + name
