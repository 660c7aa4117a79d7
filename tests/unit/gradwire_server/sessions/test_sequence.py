import asyncio

import pytest

from gradwire.v1 import sessions_pb2
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.sessions.sequence import MessageSequence
from gradwire_server.workers.frames import Frame, FrameKind


class Sender:
    """Stands for the worker; `sent` has one future for each message sent."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[Frame]] = []

    def __call__(self) -> "asyncio.Future[Frame]":
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    async def answer(self, index: int, payload: bytes = b"answer") -> None:
        self.sent[index].set_result(Frame(kind=FrameKind.REPLY, payload=payload))
        await asyncio.sleep(0)


@pytest.fixture
def sender() -> Sender:
    return Sender()


def message(seq: int, **fields: object) -> bytes:
    return sessions_pb2.ExecuteRequest(seq=seq, **fields).SerializeToString()  # type: ignore[arg-type]


async def test_messages_are_accepted_in_order(sender: Sender) -> None:
    sequence = MessageSequence()
    for seq in (1, 2, 3):
        sequence.accept(seq, 0, message(seq), sender)
    assert sequence.last_seq == 3
    assert len(sender.sent) == 3


@pytest.mark.parametrize("seq", [3, 100])
async def test_a_gap_is_refused_and_does_not_use_the_number_up(sender: Sender, seq: int) -> None:
    sequence = MessageSequence()
    sequence.accept(1, 0, message(1), sender)
    with pytest.raises(GradwireError) as caught:
        sequence.accept(seq, 0, message(seq), sender)
    assert caught.value.reason is Reason.OUT_OF_ORDER
    assert caught.value.metadata == {"seq": str(seq), "expected_seq": "2"}
    sequence.accept(2, 0, message(2), sender)
    assert len(sender.sent) == 2


@pytest.mark.parametrize("seq", [0, -1])
async def test_a_number_that_is_not_positive_is_refused(sender: Sender, seq: int) -> None:
    with pytest.raises(GradwireError) as caught:
        MessageSequence().accept(seq, 0, message(seq), sender)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.fields[0][0] == "seq"


async def test_a_message_that_cannot_be_sent_does_not_use_its_number_up(sender: Sender) -> None:
    def refuse() -> "asyncio.Future[Frame]":
        raise GradwireError(Reason.LIMIT_EXCEEDED, "full")

    sequence = MessageSequence()
    with pytest.raises(GradwireError, match="full"):
        sequence.accept(1, 0, message(1), refuse)
    assert sequence.last_seq == 0
    sequence.accept(1, 0, message(1), sender)


async def test_a_resent_message_gets_the_first_answer_also_while_that_is_pending(
    sender: Sender,
) -> None:
    sequence = MessageSequence()
    first = sequence.accept(1, 0, message(1), sender)
    assert sequence.accept(1, 0, message(1), sender) is first
    await sender.answer(0)
    assert sequence.accept(1, 0, message(1), sender) is first
    assert len(sender.sent) == 1


async def test_a_resent_message_may_have_the_name_that_it_did_not_need_before(
    sender: Sender,
) -> None:
    sequence = MessageSequence()
    first = sequence.accept(1, 0, message(1), sender)
    assert sequence.accept(1, 0, message(1, name="sessions/abc"), sender) is first


async def test_a_resent_message_that_differs_is_refused(sender: Sender) -> None:
    sequence = MessageSequence()
    sequence.accept(1, 0, message(1), sender)
    with pytest.raises(GradwireError) as caught:
        sequence.accept(1, 0, message(1, failure_seen_seq=1), sender)
    assert caught.value.reason is Reason.REQUEST_CHANGED
    assert caught.value.metadata == {"seq": "1"}


async def test_acknowledged_answers_are_forgotten(sender: Sender) -> None:
    sequence = MessageSequence()
    for seq in (1, 2, 3):
        sequence.accept(seq, 0, message(seq), sender)
        await sender.answer(seq - 1)
    sequence.accept(4, 2, message(4), sender)
    assert sequence.num_kept == 2
    with pytest.raises(GradwireError) as caught:
        sequence.accept(2, 0, message(2), sender)
    assert caught.value.reason is Reason.OUT_OF_ORDER
    assert "acknowledged" in caught.value.message


async def test_a_pending_message_is_not_forgotten_even_if_it_is_acknowledged(
    sender: Sender,
) -> None:
    sequence = MessageSequence()
    first = sequence.accept(1, 1, message(1), sender)
    sequence.accept(2, 2, message(2), sender)
    assert sequence.accept(1, 0, message(1), sender) is first


async def test_unacknowledged_answers_are_bounded_by_their_number(sender: Sender) -> None:
    sequence = MessageSequence(max_answers=2)
    for seq in range(1, 6):
        sequence.accept(seq, 0, message(seq), sender)
        await sender.answer(seq - 1)
    assert sequence.num_kept == 2
    sequence.accept(4, 0, message(4), sender)


async def test_unacknowledged_answers_are_bounded_by_their_bytes_but_the_last_is_kept(
    sender: Sender,
) -> None:
    sequence = MessageSequence(max_bytes=10)
    for seq in range(1, 4):
        sequence.accept(seq, 0, message(seq), sender)
        await sender.answer(seq - 1, bytes(100))
    assert sequence.num_kept == 1
    assert len(sequence.accept(3, 0, message(3), sender).result().payload) == 100
