"""Traces from the SDK through the front to the worker, sent to a real OTLP receiver."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from gradwire.transport.channel import open_channel
from gradwire.v1 import server_pb2
from tests.processes import ServerProcess, Stubs

SCRIPT = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
exporter = OTLPSpanExporter(endpoint=sys.argv[2], insecure=True)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

import gradwire as torch

with trace.get_tracer("test").start_as_current_span("training"):
    with torch.connect(sys.argv[1]):
        print(torch.ones(3).sum().item())
provider.shutdown()
"""


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver that keeps spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self._news = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._news:
            for resource in request.resource_spans:
                for attribute in resource.resource.attributes:
                    if attribute.key == "service.name":
                        self.services.add(attribute.value.string_value)
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_line_of_a_script_is_one_trace_down_to_the_engine(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    received, endpoint = receiver
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with ServerProcess(tmp_path, otlp_endpoint=endpoint) as server:
        result = subprocess.run(
            [sys.executable, str(script), server.address, endpoint],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout == "3.0\n"
    # The server has sent what was left when it ended.
    by_id = {span.span_id: span for span in received.spans}
    (training,) = received.named("training")

    def path_of(span: Any) -> list[str]:
        names = [span.name]
        while span.parent_span_id:
            span = by_id[span.parent_span_id]
            names.append(span.name)
        return names[::-1]

    assert "gradwire" in received.services
    assert {span.trace_id for span in received.spans} == {training.trace_id}
    message = "gradwire.v1.SessionService/Execute message"
    expected = ["training", message, message, "worker", "engine.execute"]
    assert expected in [path_of(span) for span in received.named("engine.execute")]
    create = "gradwire.v1.SessionService/CreateSession"
    assert [path_of(span) for span in received.named(create)] == [
        ["training", create],
        ["training", create, create],
    ]
    for span in received.spans:
        parent = by_id.get(span.parent_span_id)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if parent is not None and span.name.startswith(("worker", "engine")):
            # Clocks of one host; what is below lies within what is above, but for some rounding.
            assert span.start_time_unix_nano >= parent.start_time_unix_nano - 1_000_000


def test_the_metadata_of_any_client_say_what_a_call_is_part_of(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    received, endpoint = receiver
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with (
        ServerProcess(tmp_path, otlp_endpoint=endpoint) as server,
        open_channel(server.address) as channel,
    ):
        Stubs(channel).server.GetServerInfo(
            server_pb2.GetServerInfoRequest(),
            metadata=(("traceparent", f"00-{trace}-{parent}-01"),),
            timeout=20,
        )
    (span,) = received.named("gradwire.v1.ServerService/GetServerInfo")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)


def test_a_receiver_that_is_not_there_disturbs_nobody(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, otlp_endpoint="http://127.0.0.1:1") as server:
        with open_channel(server.address) as channel:
            assert Stubs(channel).workers()
        assert server.stop() == 0


@pytest.mark.parametrize("module", ["gradwire", "gradwire_server.server"])
def test_nothing_of_it_is_imported_when_it_is_off(module: str) -> None:
    script = (
        f"import sys, {module}, gradwire.transport.channel; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
