"""Any bytes, from anybody, to any RPC: a result or a clear error, and nobody else notices.

The RPCs are those of the contract, whatever it holds, so that a new one is tested from the start.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradwire
from gradwire import nn
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from gradwire_server.transport.routes import SERVICES
from tests.processes import ServerProcess

METHODS = {
    f"{service.full_name}/{method.name}": method
    for service in SERVICES
    for method in service.methods
}
NUM_EXAMPLES = int(os.environ.get("GRADWIRE_FUZZ_EXAMPLES", "8"))
"""How many requests each RPC gets; more of them in a longer run."""

UNEXPECTED = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
MAX_DEPTH = 4


class Hall:
    """A server with a tenant who has something, and another who wants it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokens"
        self.tokens = {"owner": new_token(), "stranger": new_token(), "looker": new_token()}
        for name, (tenant, role) in {
            "owner": ("owner", Role.USER),
            "stranger": ("stranger", Role.USER),
            "looker": ("stranger", Role.READ_ONLY),
        }.items():
            append_token(path, TokenEntry.of(self.tokens[name], tenant, role, None))
        self.server = ServerProcess(folder, tokens_file=path, max_session_bytes=50_000_000)

    def call(
        self, channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes], token: str
    ) -> tuple[grpc.StatusCode, list[Any]]:
        """Makes a call of any shape; returns its status and the responses."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        metadata = (("authorization", f"Bearer {token}"),)
        many: Any = iter(requests) if method.client_streaming else requests[0]
        shape = (
            ("stream" if method.client_streaming else "unary")
            + "_"
            + ("stream" if method.server_streaming else "unary")
        )
        call = getattr(channel, shape)(path)
        responses = []
        try:
            result = call(many, metadata=metadata, timeout=30)
            for response in result if method.server_streaming else (result,):
                responses.append(response)
                if len(responses) > 100:
                    result.cancel()
                    break
        except grpc.RpcError as error:
            check_error(error)
            return error.code(), responses
        return grpc.StatusCode.OK, responses


def check_error(error: grpc.RpcError) -> None:
    """Checks that an error is one of the catalog."""
    assert error.code() not in UNEXPECTED, error
    if error.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return
    trailers: dict[str, Any] = dict(error.trailing_metadata())  # type: ignore[arg-type]
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.domain == "gradwire"
    assert info.reason
    assert error.details()


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    hall = Hall(tmp_path_factory.mktemp("hall"))
    with hall.server:
        yield hall


@pytest.fixture(scope="module")
def owned(hall: Hall) -> Iterator[Session]:
    """A session with a model, which nobody else may notice."""
    with gradwire.connect(hall.server.address, token=hall.tokens["owner"]) as session:
        gradwire.manual_seed(0)
        model = nn.Linear(2, 1)
        model.weight.sum().item()
        session.owned_model = model
        yield session


NAMES = ("sessions/{id}", "sessions/{id}/models/m", "sessions/x", "", "\u2713", "datasets/d", "a/b")
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))


def fill(message: Message, data: st.DataObject, session: str, depth: int = 0) -> None:
    """Sets some fields of a message to what may be in them, and to what had better not be."""
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    chosen: list[Any] = data.draw(st.lists(st.sampled_from(fields), max_size=4)) if fields else []
    if depth == 0 and "name" in message.DESCRIPTOR.fields_by_name:
        chosen.append(message.DESCRIPTOR.fields_by_name["name"])
    for field in chosen:
        if field.is_repeated:
            target = getattr(message, field.name)
            if field.message_type is None:
                for _ in range(data.draw(st.integers(0, 2))):
                    target.append(value_of(field, data, session))
            elif not field.message_type.GetOptions().map_entry and depth < MAX_DEPTH:
                fill(target.add(), data, session, depth + 1)
        elif field.message_type is not None:
            if depth < MAX_DEPTH:
                target = getattr(message, field.name)
                target.SetInParent()
                fill(target, data, session, depth + 1)
        else:
            setattr(message, field.name, value_of(field, data, session))


def value_of(field: Any, data: st.DataObject, session: str) -> Any:
    """Returns a value for a field that is no message."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return data.draw(st.binary(max_size=64))
        case FieldDescriptor.CPPTYPE_STRING:
            text = data.draw(st.one_of(st.sampled_from(NAMES), st.text(max_size=20)))
            return text.replace("{id}", session)
        case FieldDescriptor.CPPTYPE_BOOL:
            return data.draw(st.booleans())
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return data.draw(st.floats(width=32))
        case FieldDescriptor.CPPTYPE_ENUM:
            return data.draw(st.sampled_from([each.number for each in field.enum_type.values]))
        case FieldDescriptor.CPPTYPE_UINT32:
            return data.draw(st.sampled_from([n for n in NUMBERS if 0 <= n < 2**32]))
        case FieldDescriptor.CPPTYPE_INT32:
            return data.draw(st.sampled_from([n for n in NUMBERS if -(2**31) <= n < 2**31]))
        case FieldDescriptor.CPPTYPE_UINT64:
            return data.draw(st.sampled_from([n for n in NUMBERS if n >= 0]))
        case _:
            return data.draw(st.sampled_from(NUMBERS))


def mutated(payload: bytes, data: st.DataObject) -> bytes:
    """Returns a message as it is, cut off, with bytes changed, or with more at its end."""
    how = data.draw(st.sampled_from(("as it is", "cut", "changed", "more", "noise")))
    if how == "noise":
        return data.draw(st.binary(max_size=200))
    if how == "more":
        return payload + data.draw(st.binary(min_size=1, max_size=20))
    if not payload or how == "as it is":
        return payload
    position = data.draw(st.integers(0, len(payload) - 1))
    if how == "cut":
        return payload[:position]
    return payload[:position] + bytes([data.draw(st.integers(0, 255))]) + payload[position + 1 :]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_stranger_gets_a_result_or_a_clear_error_and_nothing_of_others(
    hall: Hall, owned: Session, method: MethodDescriptor, data: st.DataObject
) -> None:
    session = owned.name.partition("/")[2]
    requests = []
    for _ in range(data.draw(st.integers(1, 2)) if method.client_streaming else 1):
        message = GetMessageClass(method.input_type)()
        fill(message, data, session)
        requests.append(mutated(message.SerializeToString(), data))
    who = data.draw(st.sampled_from(("stranger", "stranger", "looker", "nobody")))
    with open_channel(hall.server.address) as channel:
        code, responses = hall.call(channel, method, requests, hall.tokens.get(who, "gw_wrong"))
    if who == "nobody":
        assert code is grpc.StatusCode.UNAUTHENTICATED
    # What belongs to another tenant shows nowhere.
    assert not any(owned.name.encode() in bytes(response) for response in responses)


def test_whoever_was_there_has_noticed_nothing(hall: Hall, owned: Session) -> None:
    model = owned.owned_model  # type: ignore[attr-defined]
    assert model(gradwire.ones(1, 2)).shape == (1, 1)
    assert hall.server.process.poll() is None
    assert "Traceback" not in hall.server.log()
    assert "worker died" not in hall.server.log()
