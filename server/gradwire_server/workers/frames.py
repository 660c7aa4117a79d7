"""Frames between the front process and a worker process.

A frame is a fixed header, a method name and a payload, over a stream socket:

======  ====  ==================================================
offset  type  meaning
======  ====  ==================================================
0       u64   length of the payload in bytes, little-endian
8       u64   id of the call, chosen by the front, unique per link
16      u64   id of the session, chosen by the front; 0 for none
24      u8    kind
25      u8    length of the method name in bytes
26      ...   the method name (ASCII), then the payload
======  ====  ==================================================

Payloads are serialized protobuf messages: requests and responses of ``gradwire.v1`` as they
came over the wire, ``google.rpc.Status`` in failures; figures are JSON. No pickle, nothing
executable.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("<QQQBB")


class FrameKind(IntEnum):
    """What a frame says."""

    # From the front to the worker.
    OPEN_SESSION = 1
    """Make the session `session`; the payload is a `gradwire.v1.Session` with `name` and `tenant`.
    Answered by REPLY."""
    CLOSE_SESSION = 2
    """Forget the session `session` and free its memory; calls of it that wait fail with
    SESSION_NOT_FOUND. Answered by REPLY."""
    CALL = 3
    """Run RPC `method` in the session; the payload is its request. Answered by REPLY or
    FAILURE; a streaming RPC by any number of EVENT, then END or FAILURE."""
    CANCEL = 4
    """Drop the call `call` if it waits, stop it at the next step if it is a run. Not answered
    itself; the call ends with FAILURE (CANCELLED) if this came in time."""
    STOP = 5
    """Finish all calls that wait, then end the process."""
    FIGURES = 6
    """Say how the worker is doing. The payload is a JSON object, what tenants hold on other
    workers in bytes. Answered by REPLY at the end of the turn, with `Engine.figures` as JSON."""
    OPEN_REGION = 7
    """Map memory that the session shares with its client. The payload is a JSON object: `region`,
    its number, `socket`, which gives the memory out, and `ticket`, in hexadecimal. Answered by
    REPLY or FAILURE."""
    CLOSE_REGION = 8
    """Forget the region with the number that is the payload, as JSON. Answered by REPLY."""

    # From the worker to the front.
    READY = 16
    """The worker can take sessions. The payload is a `gradwire.v1.Worker` message with
    `device`, `device_name`, `num_threads`, `pid`; the method field holds torch's version."""
    REPLY = 17
    """The answer to a call; the payload is the RPC's response (empty for OPEN and CLOSE)."""
    EVENT = 18
    """One response of a streaming RPC; the payload is the response message."""
    END = 19
    """A streaming RPC ended well."""
    FAILURE = 20
    """A call failed; the payload is a `google.rpc.Status`."""


@dataclass(slots=True, kw_only=True)
class Frame:
    """One frame. Once it is sent nobody changes it; freezing it would make each cost more.

    Attributes:
        kind: What it says.
        call: The call it belongs to; 0 for none.
        session: The session it belongs to; 0 for none.
        method: The RPC's method name, such as ``Forward``, in CALL, followed by a space and the
            trace context if it is traced; the last answer to such a call has here where its time
            went, see `Timing.summary`. See `FrameKind` for others.
        payload: A serialized message. A worker gets large ones as views of memory of their own.
    """

    kind: FrameKind
    call: int = 0
    session: int = 0
    method: str = ""
    payload: bytes = b""


def encode_header(frame: Frame, num_more_bytes: int = 0) -> bytes:
    """Returns header and method name; the payload is to be sent right after them.

    Args:
        frame: The frame.
        num_more_bytes: How long the payload is beyond that of the frame.
    """
    method = frame.method.encode("ascii")
    length = len(frame.payload) + num_more_bytes
    header = HEADER.pack(length, frame.call, frame.session, frame.kind, len(method))
    return header + method
