"""Runs whose samples the program makes while they train: in order, and no faster than that."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire
from gradwire import nn, optim, transforms
from gradwire.transport.channel import open_channel
from gradwire.utils.data import DataLoader, IterableDataset, TensorDataset
from gradwire.v1 import runs_pb2
from tests.processes import Stubs

X = np.random.default_rng(0).random((50, 4), np.float32)
Y = (X.sum(axis=1) > 2).astype(np.int64)


@pytest.fixture(autouse=True)
def _in_a_session(session: Any) -> None:
    """Each test trains in a session of its own."""


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(X, Y, strict=True)


def train(data: Any, **options: Any) -> tuple[Any, Any]:
    """Trains a small net; returns its weights and the run."""
    gradwire.manual_seed(3)
    model: Any = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    run = gradwire.train(
        model,
        data,
        exact=True,
        loss=nn.CrossEntropyLoss(),
        optimizer=optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        seed=1,
        progress=False,
        **options,
    )
    return model, run


def weights(trained: tuple[Any, Any]) -> Any:
    return trained[0][0].weight.detach().numpy()


def batches() -> Iterator[Any]:
    for begin in range(0, 50, 16):
        yield X[begin : begin + 16], Y[begin : begin + 16]


def test_a_stream_trains_as_the_same_batches_do() -> None:
    expected = train((X, Y), batch_size=16, shuffle=False, epochs=2)
    cuts: Any = [range(16), range(16, 32), range(32, 48), range(48, 50)]
    loader = DataLoader(TensorDataset(X, Y), batch_sampler=cuts)
    for streamed in (train(Stream(), batch_size=16, epochs=2), train(loader, epochs=2)):
        run = streamed[1]
        assert run.state == "SUCCEEDED"
        assert run.losses == expected[1].losses
        assert list(run.history["epoch"]) == [1] * 4 + [2] * 4
        assert np.array_equal(weights(streamed), weights(expected))
    once = train(batches())[1]
    assert once.losses == expected[1].losses[:4]


def test_a_stream_without_an_end_is_pulled_no_faster_than_the_run_takes_it() -> None:
    pulled = itertools.count()

    def forever() -> Iterator[Any]:
        while True:
            next(pulled)
            yield X[:8], Y[:8]

    _, run = train(forever(), steps=40, validation=(X, Y), metrics="accuracy")
    assert run.state == "SUCCEEDED"
    assert run.num_steps == 40
    assert "accuracy" in run.validation
    assert next(pulled) <= 40 + 24


def test_transforms_apply_to_streams() -> None:
    _, run = train(batches(), transform=transforms.Normalize(0.5, 2.0))
    assert run.losses != train(batches())[1].losses


def test_what_the_program_raises_ends_the_run_and_is_raised() -> None:
    def failing() -> Iterator[Any]:
        yield from batches()
        raise OSError("no more data")

    with pytest.raises(OSError, match="no more data"):
        train(failing())
    (run, *_) = gradwire.runs.list()
    assert run.state == "FAILED"


def test_a_run_that_waits_for_its_stream_can_be_cancelled() -> None:
    blocked = threading.Event()

    def waiting() -> Iterator[Any]:
        yield from batches()
        blocked.wait(60)

    model, run = train(waiting(), wait=False)
    # The session answers while the run waits.
    assert model[0].weight.shape == (8, 4)
    run.cancel()
    run.wait(progress=False)
    assert run.state == "CANCELLED"
    blocked.set()


def test_a_batch_for_no_run_is_refused(address: str, session: Any) -> None:
    with open_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        Stubs(channel).runs.FeedRun(
            runs_pb2.FeedRunRequest(name=session.name, stream="absent", seq=1), timeout=10
        )
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (Stream(), {}, "give a batch_size"),
        (iter(()), {}, "yields no batch"),
        (iter([{"x": X}]), {}, "dicts"),
    ],
)
def test_streams_that_can_not_be_trained_on_are_refused(
    data: Any, options: Any, message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        train(data, **options)
