"""OpenTelemetry traces of calls: from whoever called, through the front and the worker.

A worker has no exporter of its own, because it has no gRPC. It tells with its answer where the time
of the call went, and the front makes spans of that.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gradwire_server.buckets import PHASES
from gradwire_server.calls import Call

if TYPE_CHECKING:
    from opentelemetry.trace import Span

TRACEPARENT = "traceparent"
_PHASE_SPANS = dict(
    zip(
        PHASES,
        ("worker.queue", "engine.decode", "engine.execute", "engine.encode"),
        strict=True,
    )
)


class TracingUnavailableError(Exception):
    """OpenTelemetry is not installed."""


class Tracing:
    """Makes spans and sends them to an OTLP receiver.

    Nothing of OpenTelemetry is imported before one is made.

    Args:
        endpoint: The receiver, ``http://HOST:PORT`` or ``https://HOST:PORT``, gRPC.
        version: Of gradwire.

    Raises:
        TracingUnavailableError: OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str, *, version: str) -> None:
        try:
            from opentelemetry import trace  # noqa: PLC0415  # only where it is asked for
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
                TraceContextTextMapPropagator,
            )
        except ModuleNotFoundError as error:
            raise TracingUnavailableError(
                f"otlp_endpoint needs OpenTelemetry ({error.name} is missing); "
                "pip install 'gradwire[server,otel]'"
            ) from None
        self._api = trace
        self._propagator = TraceContextTextMapPropagator()
        resource = Resource.create({"service.name": "gradwire", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("gradwire_server", version)

    def begin(self, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Begins the span of a call.

        Args:
            call: The call; it gets the span.
            metadata: What came with it; a ``traceparent`` says what it is part of.
        """
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        service, _, method = call.method.partition("/")
        call.span = self._tracer.start_span(
            call.method,
            context=self._propagator.extract(carrier),
            kind=self._api.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        call.trace = self._traceparent(call.span)

    def end(self, call: Call, status: str) -> None:
        """Ends the span of a call.

        Args:
            call: The call.
            status: How it ended, such as ``OK``.
        """
        if call.resource:
            call.span.set_attribute("gradwire.resource", call.resource)
        call.span.set_attribute("rpc.grpc.status", status)
        if status != "OK":
            call.span.set_status(self._api.StatusCode.ERROR, status)
        call.span.end()

    def begin_message(self, call: Call, traceparent: str) -> tuple["Span", str]:
        """Begins the span of a message of a stream.

        Args:
            call: The call of the stream.
            traceparent: What the message is part of; the call if empty.

        Returns:
            The span, and the trace context for what is done for the message.
        """
        context = (
            self._propagator.extract({TRACEPARENT: traceparent})
            if traceparent
            else self._api.set_span_in_context(call.span)
        )
        span = self._tracer.start_span(
            f"{call.method} message", context=context, kind=self._api.SpanKind.SERVER
        )
        return span, self._traceparent(span)

    def add_worker(self, span: "Span", worker: str, times: str) -> None:
        """Adds what a worker did for a call or message.

        Args:
            span: The span of the call or message.
            worker: The worker's id.
            times: Where the time went, see `Timing.summary`; nothing is added if empty.
        """
        if not times:
            return
        at, *phases = (int(part) for part in times.split())
        worker_span = self._tracer.start_span(
            "worker",
            context=self._api.set_span_in_context(span),
            start_time=at,
            attributes={"gradwire.worker": worker},
        )
        inside: Any = self._api.set_span_in_context(worker_span)
        for phase, duration in zip(PHASES, phases, strict=True):
            each = self._tracer.start_span(_PHASE_SPANS[phase], context=inside, start_time=at)
            at += duration
            each.end(at)
        worker_span.end(at)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def _traceparent(self, span: "Span") -> str:
        """Returns the trace context of a span; empty if it is not sampled."""
        if not span.is_recording():
            return ""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._api.set_span_in_context(span))
        return carrier[TRACEPARENT]
