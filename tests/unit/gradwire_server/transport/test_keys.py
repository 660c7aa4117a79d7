import pytest

from gradwire.v1 import models_pb2, sessions_pb2, values_pb2
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.transport import keys
from gradwire_server.transport.keys import execute_key, routing_key

NAME = "sessions/abc/models/m"


@pytest.fixture(params=["parsed directly", "scanned"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "scanned":
        monkeypatch.setattr(keys, "DIRECT_BYTES", 60)


pytestmark = pytest.mark.usefixtures("_both_ways")


def tensor(size: int) -> values_pb2.Value:
    return values_pb2.Value(tensor=values_pb2.Tensor(data=bytes(size)))


@pytest.mark.parametrize("size", [0, 100, 300_000])
def test_name_and_request_id_are_read_whatever_the_size(size: int) -> None:
    request = models_pb2.ForwardRequest(name=NAME, request_id="id", inputs=[tensor(size)])
    key = routing_key(request.SerializeToString())
    assert (key.name, key.request_id) == (NAME, "id")


def test_fields_are_read_in_whatever_order_they_are_sent() -> None:
    payload = models_pb2.ForwardRequest(inputs=[tensor(300)]).SerializeToString()
    name = models_pb2.ForwardRequest(name=NAME).SerializeToString()
    assert routing_key(payload + name).name == NAME


def test_of_a_field_sent_twice_the_last_counts_as_in_any_parser() -> None:
    first = models_pb2.ForwardRequest(name="sessions/other").SerializeToString()
    payload = first + models_pb2.ForwardRequest(name=NAME, inputs=[tensor(99)]).SerializeToString()
    assert routing_key(payload).name == models_pb2.ForwardRequest.FromString(payload).name == NAME


def test_the_order_of_execute_messages_is_read() -> None:
    put = sessions_pb2.PutTensor(handle=1, tensor=values_pb2.Tensor(data=bytes(300)))
    request = sessions_pb2.ExecuteRequest(
        name="sessions/abc",
        seq=2**40,
        failure_seen_seq=7,
        acknowledged_seq=2**40 - 1,
        commands=[sessions_pb2.Command(put_tensor=put)],
    )
    key = execute_key(request.SerializeToString())
    assert (key.name, key.seq, key.acknowledged_seq) == ("sessions/abc", 2**40, 2**40 - 1)


def test_other_types_of_fields_are_skipped() -> None:
    request = models_pb2.StepRequest(
        name=NAME,
        clip_grad_norm=1.5,
        closure=models_pb2.Closure(inputs=[tensor(300)]),
    )
    assert routing_key(request.SerializeToString()).name == NAME
    other = models_pb2.BackwardRequest(name=NAME, handle=-1, gradients=range(100))
    assert routing_key(other.SerializeToString()).name == NAME


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x0a\xff" + bytes(10),
        b"\xff" * 100,
        b"\x0b" + bytes(99),
        b"\x22\xff\xff\xff\xff\x0f" + bytes(99),
        b"\x0a\x02\xff\xff" + b"\x22\x63" + bytes(99),
        b"\x09" + bytes(4),
        b"\x20",
        models_pb2.ForwardRequest(name=NAME, inputs=[tensor(300)]).SerializeToString()[:-1],
    ],
)
def test_what_is_no_message_is_refused(garbage: bytes) -> None:
    with pytest.raises(GradwireError) as caught:
        routing_key(garbage)
    assert caught.value.reason is Reason.INVALID_REQUEST
