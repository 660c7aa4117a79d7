"""Callers that take no answers, or send faster than the worker computes: they alone wait."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gradwire.transport.channel import open_channel
from gradwire.v1 import sessions_pb2, values_pb2
from tests.processes import ServerProcess, Stubs
from tests.safety.caller import Caller

MEBIBYTE = 1024 * 1024
NUM_MESSAGES = 300
SLACK_BYTES = 160 * MEBIBYTE
"""What is under way on one stream, and what gRPC and the allocator take beside it."""

Command = sessions_pb2.Command
Value = values_pb2.Value


class Front(NamedTuple):
    """A server, and plain stubs."""

    process: ServerProcess
    stubs: Stubs

    def resident_bytes(self) -> int:
        """Returns how much memory the front process has resident."""
        status = Path(f"/proc/{self.process.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    server = ServerProcess(tmp_path_factory.mktemp("slow"))
    with server as process, open_channel(process.address) as channel:
        yield Front(process, Stubs(channel))


def operation(name: str, *args: Value) -> values_pb2.Operation:
    return values_pb2.Operation(name=name, args=args)


def mebibyte() -> Command:
    """Returns a command that stores a MiB of zeros under handle 2."""
    tensor = values_pb2.Tensor(
        dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[512, 512], data=bytes(MEBIBYTE)
    )
    return Command(put_tensor=sessions_pb2.PutTensor(handle=2, tensor=tensor))


def program(*operations: values_pb2.Operation) -> Command:
    """Returns a command that stores a program of one input under handle 1."""
    stored = values_pb2.Program(num_inputs=1, operations=operations)
    return Command(put_program=sessions_pb2.PutProgram(handle=1, program=stored))


def run(**results: list[int]) -> Command:
    """Returns a command that runs the program on the tensor."""
    return Command(run_program=sessions_pb2.RunProgram(program=1, inputs=[2], **results))


def test_who_takes_no_answers_is_not_answered_on_and_loses_none(front: Front) -> None:
    slow, other = Caller(front.stubs), Caller(front.stubs)
    before = front.resident_bytes()

    def messages() -> Iterator[sessions_pb2.ExecuteRequest]:
        copy = program(operation("torch.add", Value(input=0), Value(int_value=1)))
        for seq in range(1, NUM_MESSAGES + 1):
            first = [mebibyte(), copy] if seq == 1 else []
            yield sessions_pb2.ExecuteRequest(
                name=slow.name, seq=seq, commands=[*first, run(fetch=[0])]
            )

    with open_channel(front.process.address) as channel:
        answers = Stubs(channel).sessions.Execute(messages(), timeout=120)
        assert next(answers).seq == 1
        # Each of these has a turn for every turn of the other session.
        for _ in range(NUM_MESSAGES):
            other.run(operation("torch.ones", Value(int_value=1)), fetch=[0])
        assert front.resident_bytes() - before < SLACK_BYTES
        rest = [(answer.seq, len(answer.values[0].tensor.data)) for answer in answers]
        assert rest == [(seq, MEBIBYTE) for seq in range(2, NUM_MESSAGES + 1)]
    slow.close()
    other.close()


def test_who_sends_faster_than_the_worker_computes_waits(front: Front) -> None:
    fast, other = Caller(front.stubs), Caller(front.stubs)
    num_sent, over = 0, threading.Event()

    def messages() -> Iterator[sessions_pb2.ExecuteRequest]:
        nonlocal num_sent
        products = [operation("torch.mm", Value(input=0), Value(input=0)) for _ in range(8)]
        for seq in range(1, NUM_MESSAGES + 1):
            if over.is_set():
                return
            first = [program(*products)] if seq == 1 else []
            yield sessions_pb2.ExecuteRequest(
                name=fast.name, seq=seq, commands=[*first, mebibyte(), run()]
            )
            num_sent = seq

    with open_channel(front.process.address) as channel:
        stream = Stubs(channel).sessions.Execute(messages(), timeout=120)
        assert next(stream).seq == 1
        for _ in range(10):
            other.run(operation("torch.ones", Value(int_value=1)), fetch=[0])
        assert num_sent < NUM_MESSAGES // 2
        over.set()
        assert len(list(stream)) < NUM_MESSAGES
    fast.close()
    other.close()
