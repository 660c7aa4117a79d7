"""OpenTelemetry spans of the SDK's calls, in programs that use OpenTelemetry.

Nothing of it is imported here: a program that has not imported OpenTelemetry itself has no use for
spans, and pays nothing for them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAME = "gradwire"

Metadata = tuple[tuple[str, str], ...]


class MessageSpan:
    """The span of a message of a stream, from when it is sent until it is answered.

    Args:
        name: Its name.

    Attributes:
        traceparent: What the message says it is part of; empty if it is not traced.
    """

    def __init__(self, name: str) -> None:
        self.traceparent = ""
        self._span: Any = None
        trace = _api()
        if trace is not None:
            self._span = trace.get_tracer(NAME).start_span(name, kind=trace.SpanKind.CLIENT)
            self.traceparent = _traceparent(trace, self._span)

    def end(self) -> None:
        """Ends the span."""
        if self._span is not None:
            self._span.end()


@contextmanager
def call_span(method: str) -> Iterator[Metadata]:
    """Makes the block a span of a call, and yields the metadata that tell the server of it.

    Args:
        method: ``package.Service/Method``.
    """
    trace = _api()
    if trace is None:
        yield ()
        return
    service, _, name = method.partition("/")
    with trace.get_tracer(NAME).start_as_current_span(
        method,
        kind=trace.SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
    ) as span:
        traceparent = _traceparent(trace, span)
        yield (("traceparent", traceparent),) if traceparent else ()


def method_name(method: Any) -> str:
    """Returns ``package.Service/Method`` of a stub's method; "gradwire" if it does not say."""
    path = getattr(method, "_method", NAME)
    return str(path.decode() if isinstance(path, bytes) else path).removeprefix("/")


def _api() -> Any:
    """Returns OpenTelemetry's API if the program uses it."""
    return sys.modules.get("opentelemetry.trace")


def _traceparent(trace: Any, span: Any) -> str:
    """Returns a span as https://www.w3.org/TR/trace-context writes it; "" if nobody records it."""
    context = span.get_span_context()
    if not span.is_recording() or not context.is_valid:
        return ""
    return (
        f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        f"-{context.trace_flags:02x}"
    )
