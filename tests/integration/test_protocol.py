"""The examples of docs/protocol.md are sent as they stand, in order, to a real server."""

import json
import re
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # noqa: F401  # JSON of details needs them
from grpc_status import rpc_status

from gradwire.transport.channel import open_channel
from gradwire.v1 import models_pb2, sessions_pb2, values_pb2

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
EXAMPLE = re.compile(r"^```json (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVICES: dict[str, ServiceDescriptor] = {
    **models_pb2.DESCRIPTOR.services_by_name,
    **sessions_pb2.DESCRIPTOR.services_by_name,
}


def send(channel: grpc.Channel, method: MethodDescriptor, request: Message) -> Message:
    """Returns the response to a request, or the status that it failed with."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    response_class = message_factory.GetMessageClass(method.output_type)
    coding: Any = {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": response_class.FromString,
    }
    try:
        if method.client_streaming:
            (response,) = channel.stream_stream(path, **coding)(iter([request]), timeout=60)
        else:
            response = channel.unary_unary(path, **coding)(request, timeout=60)
    except grpc.RpcError as error:
        response = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert isinstance(response, Message)
    return response


def contains(found: Any, expected: Any) -> bool:
    """Whether JSON has everything that is expected of it; lists have equal lengths."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            key in found and contains(found[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(contains, found, expected))
    return bool(found == expected)


def test_every_example_is_accepted_and_answered_as_the_page_says(address: str) -> None:
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) == PAGE.read_text().count("```json") >= 20
    session = "sessions/SESSION"
    answer: Message | None = None
    with open_channel(address) as channel:
        for what, text in examples:
            example = text.replace("sessions/SESSION", session)
            service, _, name = what.partition("/")
            if name:
                assert answer is None or not isinstance(answer, status_pb2.Status), answer
                method = SERVICES[service].methods_by_name[name]
                request = message_factory.GetMessageClass(method.input_type)()
                answer = send(channel, method, json_format.Parse(example, request))
            elif what == "Value":
                json_format.Parse(example, values_pb2.Value())
            else:
                assert answer is not None
                assert answer.DESCRIPTOR.name == what
                if isinstance(answer, models_pb2.CreateModelResponse):
                    session = answer.model.name.partition("/models/")[0]
                    example = text.replace("sessions/SESSION", session)
                found = json_format.MessageToDict(answer)
                assert contains(found, json.loads(example)), found
                answer = None
    assert answer is None or not isinstance(answer, status_pb2.Status), answer


def test_every_kind_of_argument_that_the_page_names_exists() -> None:
    kinds = {field.name for field in values_pb2.Value.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert {"input", "result", "member", "handle"} <= kinds
