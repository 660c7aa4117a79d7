import pytest
from google.rpc import error_details_pb2, status_pb2

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.transport.statuses import FailedCallError, fit
from gradwire_server.workers.frames import Frame, FrameKind

TRAILER_BYTES = 8000


def info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    detail = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(detail)
    return detail


def test_a_short_status_is_left_as_it_is() -> None:
    status = GradwireError(Reason.NO_GRADIENT, "call Backward").to_status()
    assert fit(status) is status


@pytest.mark.parametrize("letter", ["x", "\u2713", "\U0001f525"])
def test_a_long_message_is_cut_so_that_it_fits_into_trailers(letter: str) -> None:
    error = GradwireError(
        Reason.OPERATION_FAILED,
        letter * 5000,
        metadata={"operation": "torch.add", "what": letter * 3000},
        fields=[("path", letter * 3000)],
    )
    status = fit(error.to_status())
    assert len(status.SerializeToString()) * 4 // 3 + 3 * len(status.message.encode()) < (
        TRAILER_BYTES
    )
    assert status.message.endswith("...")
    assert info(status).reason == "OPERATION_FAILED"
    assert info(status).metadata["operation"] == "torch.add"


def test_what_a_worker_says_is_passed_on_with_all_details() -> None:
    status = GradwireError(Reason.UNKNOWN_NAME, "no", fields=[("a.b", "wrong")]).to_status()
    frame = Frame(kind=FrameKind.FAILURE, payload=status.SerializeToString())
    assert FailedCallError(frame).to_status() == status


def test_a_worker_that_says_nonsense_is_an_internal_error() -> None:
    frame = Frame(kind=FrameKind.FAILURE, payload=b"\xff\xff")
    assert info(FailedCallError(frame).to_status()).reason == "INTERNAL"
