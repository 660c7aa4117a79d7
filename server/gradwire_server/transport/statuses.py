"""Ending calls with an error."""

from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gradwire_server.errors import internal_error
from gradwire_server.transport.grpc_types import Context
from gradwire_server.workers.frames import Frame

DETAILS_KEY = "grpc-status-details-bin"

MAX_MESSAGE_BYTES = 1500
"""Longer messages are cut: gRPC drops calls whose trailing metadata exceeds about 8 KiB, and the
message is there twice, once with up to three characters a byte."""

MAX_DETAILS_BYTES = 4096
"""If the details exceed this, only the ErrorInfo stays; its long values are cut."""

_MAX_VALUE_LENGTH = 100
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class FailedCallError(Exception):
    """A worker answered FAILURE, which is to be passed on as it is.

    Args:
        frame: The answer.
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__("the worker answered with a failure")
        self.frame = frame

    def to_status(self) -> status_pb2.Status:
        """Returns what the worker said."""
        try:
            return status_pb2.Status.FromString(self.frame.payload)
        except DecodeError:
            return internal_error().to_status()


async def abort(context: Context, status: status_pb2.Status) -> NoReturn:
    """Ends a call with a status, details included."""
    status = fit(status)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(code, status.message, details)
    raise AssertionError("abort raises")


def fit(status: status_pb2.Status) -> status_pb2.Status:
    """Returns the status, shortened to what trailing metadata may hold."""
    if status.ByteSize() <= MAX_MESSAGE_BYTES:
        return status
    short = status_pb2.Status(code=status.code, details=status.details)
    short.message = _cut(status.message, MAX_MESSAGE_BYTES)
    if short.ByteSize() > MAX_DETAILS_BYTES:
        del short.details[:]
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                for key, value in info.metadata.items():
                    info.metadata[key] = value[:_MAX_VALUE_LENGTH]
                short.details.add().Pack(info)
    return short


def _cut(text: str, num_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= num_bytes:
        return text
    return encoded[: num_bytes - 4].decode(errors="ignore") + " ..."
