"""What an answer from a worker says, read without decoding results."""

import asyncio

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gradwire_server.errors import GradwireError, Reason, internal_error
from gradwire_server.workers.frames import Frame, FrameKind

NOT_CARRIED_OUT = frozenset(
    {
        Reason.CANCELLED,
        Reason.LIMIT_EXCEEDED,
        Reason.NOT_READY,
        Reason.SESSION_LOST,
        Reason.SHUTTING_DOWN,
    }
)
"""Reasons that say that a request changed nothing, or nothing that is still there."""


def failure_of(frame: Frame) -> GradwireError:
    """Returns the error that a FAILURE carries."""
    try:
        status = status_pb2.Status.FromString(frame.payload)
    except DecodeError:
        return internal_error()
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            try:
                return GradwireError(Reason(info.reason), status.message, metadata=info.metadata)
            except ValueError:
                break
    return internal_error()


def has_effect(outcome: Frame | BaseException) -> bool:
    """Whether a request may have changed something, by what came of it."""
    return _reason_of(outcome) not in NOT_CARRIED_OUT


def was_cancelled(outcome: Frame | BaseException) -> bool:
    """Whether a request was cancelled before it was carried out, by what came of it."""
    return _reason_of(outcome) is Reason.CANCELLED


def outcome_of(answer: "asyncio.Future[Frame]") -> Frame | BaseException:
    """Returns what a future that is done holds."""
    if answer.cancelled():
        return asyncio.CancelledError()
    return answer.exception() or answer.result()


def _reason_of(outcome: Frame | BaseException) -> Reason | None:
    """Returns why a request failed; none if it did not."""
    if isinstance(outcome, Frame):
        return failure_of(outcome).reason if outcome.kind is FrameKind.FAILURE else None
    if isinstance(outcome, GradwireError):
        return outcome.reason
    return Reason.CANCELLED if isinstance(outcome, asyncio.CancelledError) else Reason.INTERNAL
