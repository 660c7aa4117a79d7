"""Any bytes, from anybody, to any RPC: a result or a clear error, and nobody else notices.

Messages are cut and changed, and below them the frames of HTTP/2; and what belongs to somebody else
is asked for by every RPC.

The RPCs are those of the contract, whatever it holds, so that a new one is tested from the start.
"""

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradwire
from gradwire import datasets, nn
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire.v1 import (
    checkpoints_pb2,
    datasets_pb2,
    models_pb2,
    runs_pb2,
    sessions_pb2,
    values_pb2,
)
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from gradwire_server.transport.routes import SERVICES
from tests.processes import ServerProcess, Stubs, free_port

METHODS = {
    f"{service.full_name}/{method.name}": method
    for service in SERVICES
    for method in service.methods
}
NUM_EXAMPLES = int(os.environ.get("GRADWIRE_FUZZ_EXAMPLES", "8"))
"""How many requests each RPC gets; more of them in a longer run."""

UNEXPECTED = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
MAX_DEPTH = 4
LARGE_BYTES = 64 * 1024**2


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
        self.health = f"127.0.0.1:{free_port()}"
        self.server = ServerProcess(
            folder, tokens_file=path, max_session_bytes=50_000_000, health_address=self.health
        )

    def call(
        self,
        channel: grpc.Channel,
        method: MethodDescriptor,
        requests: list[bytes],
        token: str,
        errors: list[str] | None = None,
    ) -> tuple[grpc.StatusCode, list[Any]]:
        """Makes a call of any shape; returns its status and the responses.

        What an error says is added to `errors`.
        """
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
            if errors is not None:
                errors.append(str(error.details()))
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


@dataclass(frozen=True, kw_only=True)
class Owned:
    """What a tenant has, which nobody else may notice."""

    session: Session
    model: nn.Module
    names: list[str]
    """A name of each kind: of a session, a model, a dataset, a run and a checkpoint."""


def secret_of(name: str) -> str:
    """Returns what only the owner of something can know: the part of its name that is its own."""
    return re.split("[/-]", name)[1]


@pytest.fixture(scope="module")
def owned(hall: Hall) -> Iterator[Owned]:
    with gradwire.connect(hall.server.address, token=hall.tokens["owner"]) as session:
        gradwire.manual_seed(0)
        model = nn.Linear(2, 1)
        run = gradwire.train(
            model,
            (gradwire.ones(4, 2), gradwire.ones(4, 1)),
            loss=nn.MSELoss(),
            optimizer=gradwire.optim.SGD(model.parameters(), lr=0.1),
            epochs=1,
        )
        datasets.upload("zx81-of-the-owner", {"x": np.zeros(3)})
        sizes = [values_pb2.Value(int_value=1)] * 2
        named = session.call(
            Stubs(session.channel).models.CreateModel,
            models_pb2.CreateModelRequest(
                name=session.name,
                model_id="zx81-of-the-owner",
                module=models_pb2.ModuleSpec(type="torch.nn.Linear", args=sizes),
            ),
        ).model
        yield Owned(
            session=session,
            model=model,
            names=[
                session.name,
                named.name,
                "datasets/zx81-of-the-owner",
                run.name,
                run.checkpoints[-1],
            ],
        )


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
        case FieldDescriptor.CPPTYPE_STRING if field.name == "display_name":
            # It comes back as it was given, so it must not be the name that nothing may show.
            return data.draw(st.text(max_size=20))
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
    hall: Hall, owned: Owned, method: MethodDescriptor, data: st.DataObject
) -> None:
    session = owned.session.name.partition("/")[2]
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
    assert not any(owned.session.name.encode() in bytes(response) for response in responses)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_a_caller_may_not_send_is_not_read_first(hall: Hall, method: MethodDescriptor) -> None:
    process = Path(f"/proc/{hall.server.process.pid}")

    def most_bytes() -> int:
        (line,) = (x for x in (process / "status").read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) * 1024

    (process / "clear_refs").write_text("5")  # what was taken before does not count
    before = most_bytes()
    with open_channel(hall.server.address) as channel:
        code, _ = hall.call(channel, method, [bytes(LARGE_BYTES)], "gw_wrong")
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert most_bytes() - before < LARGE_BYTES / 2


NAMING = {"name", "session", "model", "dataset", "run", "checkpoint"}
"""What fields are called that name something."""


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("who", ["stranger", "looker"])
def test_what_belongs_to_another_is_answered_as_what_never_was(
    hall: Hall, owned: Owned, method: MethodDescriptor, who: str
) -> None:
    kind = GetMessageClass(method.input_type)
    fields = [
        each.name
        for each in method.input_type.fields
        if each.name in NAMING and each.type == FieldDescriptor.TYPE_STRING
    ]
    with open_channel(hall.server.address) as channel:
        _, everything = hall.call(channel, method, [b""], hall.tokens[who])
        assert not shown(owned, everything)
        for field, name in product(fields, owned.names):
            secret = secret_of(name)
            asked = []
            for there in (secret, secret[::-1]):
                request = kind(**{field: name.replace(secret, there)}).SerializeToString()
                error: list[str] = []
                code, responses = hall.call(channel, method, [request], hall.tokens[who], error)
                assert not shown(owned, responses)
                asked.append((code, [text.replace(there, "") for text in error]))
            assert asked[0] == asked[1]


def shown(owned: Owned, responses: list[Any]) -> bool:
    secrets = [secret_of(name).encode() for name in owned.names]
    return any(secret in bytes(each) for secret in secrets for each in responses)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns a frame of HTTP/2, see https://www.rfc-editor.org/rfc/rfc9113#section-4."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """Returns a header in HPACK, as a literal, see https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2."""
    texts = [name.encode(), value.encode()]
    return b"\0" + b"".join(bytes([len(text)]) + text for text in texts)


def call_in_frames(method: MethodDescriptor, token: str, message: bytes) -> list[bytes]:
    """Returns the frames of a call, from the beginning of its connection on."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{method.containing_service.full_name}/{method.name}",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "authorization": f"Bearer {token}",
    }
    block = b"".join(header(name, value) for name, value in headers.items())
    return [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""),
        frame(1, 0x4, 1, block),
        frame(0, 0x1, 1, struct.pack(">BI", 0, len(message)) + message),
    ]


def exchange(hall: Hall, sent: bytes, address: str = "") -> bytes:
    """Sends bytes, and that there are no more; returns what is answered until the end."""
    with socket.socket(socket.AF_INET if address else socket.AF_UNIX) as connection:
        connection.settimeout(30)
        host, _, port = address.partition(":")
        connection.connect(
            (host, int(port)) if address else hall.server.address.removeprefix("unix:")
        )
        with contextlib.suppress(ConnectionError):  # it may be ended before all is sent
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        answered = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                answered += piece
        return answered


INFO = METHODS["gradwire.v1.ServerService/GetServerInfo"]


@settings(max_examples=4 * NUM_EXAMPLES, deadline=None, derandomize=True)
@given(data=st.data())
def test_frames_that_are_cut_or_changed_end_their_connection_at_most(
    hall: Hall, owned: Owned, data: st.DataObject
) -> None:
    method = data.draw(st.sampled_from(list(METHODS.values())))
    token = hall.tokens["stranger"]
    request: Any = GetMessageClass(method.input_type)()
    if "name" in request.DESCRIPTOR.fields_by_name:
        request.name = owned.session.name
    frames = call_in_frames(method, token, request.SerializeToString())
    how = data.draw(st.sampled_from(("cut", "changed", "reordered", "without an end")))
    sent = b"".join(frames)
    match how:
        case "cut":
            sent = sent[: data.draw(st.integers(0, len(sent) - 1))]
        case "changed":
            for _ in range(data.draw(st.integers(1, 4))):
                position = data.draw(st.integers(0, len(sent) - 1))
                value = bytes([data.draw(st.integers(0, 255))])
                sent = sent[:position] + value + sent[position + 1 :]
        case "reordered":
            sent = b"".join(data.draw(st.permutations([*frames, *frames[1:]])))
        case _:
            sent = b"".join(frames[:2]) + frame(0, 0, 1, struct.pack(">BI", 0, 2**31) + b"x")
    exchange(hall, sent)
    with open_channel(hall.server.address) as channel:
        assert hall.call(channel, INFO, [b""], token)[0] is grpc.StatusCode.OK


@pytest.mark.parametrize("path", ["/gradwire.v1.Sess\xbaions/Execute", "/\xff", "no/such"])
def test_a_method_that_is_not_there_is_unknown_however_it_is_spelt(hall: Hall, path: str) -> None:
    spelt = path.encode("latin-1")
    before, request, _ = call_in_frames(INFO, hall.tokens["looker"], b"")
    asked = header(":path", f"/{INFO.containing_service.full_name}/{INFO.name}")
    assert asked in request
    block = request[9:].replace(asked, b"\0\5:path" + bytes([len(spelt)]) + spelt)
    sent = before + frame(1, 0x5, 1, block)
    exchange(hall, sent)
    exchange(hall, sent, hall.health)
    with open_channel(hall.server.address) as channel:
        assert hall.call(channel, INFO, [b""], hall.tokens["looker"])[0] is grpc.StatusCode.OK
        unknown: Any = channel.unary_unary("/gradwire.v1.SessionService/NoSuch")
        with pytest.raises(grpc.RpcError) as refused:
            unknown(b"", timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(hall.health) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_frames_that_are_whole_are_answered(hall: Hall) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(hall.server.address.removeprefix("unix:"))
        connection.sendall(b"".join(call_in_frames(INFO, hall.tokens["looker"], b"")))
        answered = b""
        while b"worker-0" not in answered:
            piece = connection.recv(65536)
            assert piece, answered
            answered += piece


def test_whoever_was_there_has_noticed_nothing(hall: Hall, owned: Owned) -> None:
    assert owned.model(gradwire.ones(1, 2)).shape == (1, 1)
    session, model, dataset, run, checkpoint = owned.names
    stubs = Stubs(owned.session.channel)
    for method, request in (
        (stubs.sessions.GetSession, sessions_pb2.GetSessionRequest(name=session)),
        (stubs.models.GetModel, models_pb2.GetModelRequest(name=model)),
        (stubs.datasets.GetDataset, datasets_pb2.GetDatasetRequest(name=dataset)),
        (stubs.runs.GetRun, runs_pb2.GetRunRequest(name=run)),
        (
            stubs.checkpoints.GetCheckpoint,
            checkpoints_pb2.GetCheckpointRequest(name=checkpoint),
        ),
    ):
        assert owned.session.call(method, request).ByteSize() > 0
    assert hall.server.process.poll() is None
    assert "Traceback" not in hall.server.log()
    assert "worker died" not in hall.server.log()
    # gRPC would log what it cannot decode, and tokens are sent like that.
    assert "Bearer" not in hall.server.log()
