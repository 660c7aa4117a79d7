"""The audit log: who did what. One JSON object a line, never contents or tokens."""

import json
import logging
import logging.handlers
import os
from datetime import UTC, datetime
from pathlib import Path

from gradwire_server.access.identity import Caller
from gradwire_server.calls import Call, log_name, trace_id
from gradwire_server.transport.routes import changes_something


class AuditLog:
    """Records calls that change something, and those that were refused at the door.

    Args:
        path: The file to append to; it may be moved away at any time, and is then made anew. Only
            its owner may read it.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        self._handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def record(self, call: Call, who: Caller | None, status: str) -> None:
        """Appends a call, if it is one that is recorded.

        Args:
            call: The call.
            who: Who called; none if that is not known.
            status: How it ended, such as ``OK``.
        """
        refused = status in {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        if not refused and not changes_something(call.method):
            return
        facts = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "tenant": who.tenant if who else "",
            "role": who.role.value if who else "",
            "token": who.token_id if who else "",
            "peer": call.peer,
            "method": call.method,
            "resource": log_name(call.resource),
            "request_id": call.request_id,
            "trace_id": trace_id(call.trace),
            "status": status,
        }
        text = json.dumps({name: value for name, value in facts.items() if value})
        self._handler.emit(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        """Closes the file."""
        self._handler.close()
