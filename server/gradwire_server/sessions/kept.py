"""Answers as data, for a server that goes on with a session and may be asked once more."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import NamedTuple

from gradwire_server.workers.frames import Frame, FrameKind


class KeptAnswer(NamedTuple):
    """What a message or a request was answered.

    Attributes:
        key: The number of the message, or the request id.
        digest: What tells whether the same was asked.
        frame: The worker's REPLY or FAILURE.
    """

    key: int | str
    digest: bytes
    frame: Frame


def pack(answers: Iterable[KeptAnswer]) -> bytes:
    """Returns answers as bytes; none if there are none."""
    entries = [
        [answer.key, answer.digest.hex(), answer.frame.kind, _text(answer.frame.payload)]
        for answer in answers
    ]
    return json.dumps(entries, separators=(",", ":")).encode() if entries else b""


def unpack(data: bytes) -> list[KeptAnswer]:
    """Returns the answers of `pack`."""
    return [
        KeptAnswer(
            key, bytes.fromhex(digest), Frame(kind=FrameKind(kind), payload=b64decode(payload))
        )
        for key, digest, kind, payload in json.loads(data)
    ]


def _text(payload: bytes) -> str:
    return b64encode(payload).decode("ascii")
