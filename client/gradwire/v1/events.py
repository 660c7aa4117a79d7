"""What the events of a run hold."""

from typing import TypeVar

from gradwire.v1 import runs_pb2

T = TypeVar("T", runs_pb2.RunCheckpoint, runs_pb2.RunValidation, runs_pb2.RunWarning)


def entries(event: T) -> list[T]:
    """Returns all that an event tells of, oldest first: `earlier`, and then the event itself."""
    return [*event.earlier, event]
