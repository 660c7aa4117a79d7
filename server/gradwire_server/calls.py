"""The call in progress: what is known of it, for logs, traces and the audit log; a leaf."""

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

_SESSION_ID = re.compile(r"(sessions/[a-z0-9]{8})[a-z0-9]+")


@dataclass(slots=True, kw_only=True)
class Call:
    """A call of an RPC, from its beginning to its end.

    Attributes:
        method: ``package.Service/Method``.
        peer: Who called, as gRPC says it.
        resource: The name of what it is about, if it is known.
        request_id: The id that makes it safe to send again, if it has one.
        trace: The trace context for what is done for it, a W3C ``traceparent``; empty if it is not
            traced.
        span: The span of the call, if it is traced.
        begun_at: When it began, by `perf_counter`.
    """

    method: str
    peer: str = ""
    resource: str = ""
    request_id: str = ""
    trace: str = ""
    span: Any = None
    begun_at: float = field(default_factory=perf_counter)


_call: ContextVar[Call | None] = ContextVar("call", default=None)


def current_call() -> Call | None:
    """Returns the call in progress; none outside of calls."""
    return _call.get()


def begin_call(call: Call) -> Call:
    """Makes a call the one in progress, until its task ends."""
    _call.set(call)
    return call


def note_resource(name: str, request_id: str = "") -> None:
    """Says what the call in progress is about."""
    call = _call.get()
    if call is not None:
        call.resource = name
        call.request_id = request_id or call.request_id


def log_name(resource: str) -> str:
    """Returns a resource's name for logs, which does not let their readers use its session."""
    return _SESSION_ID.sub(r"\1...", resource)


def trace_id(traceparent: str) -> str:
    """Returns the id of the trace in a ``traceparent``; see https://www.w3.org/TR/trace-context."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""
