"""What sessions that have ended leave behind is given back, and not at the cost of all others."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gradwire_server.engine.engine import ENDED_BYTES, ENDED_SHARE, Engine
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage, StorageConfig
from tests.unit.gradwire_server.engine.test_turns import Recorded

MANY = 10 * ENDED_SHARE


class Collections:
    """Counts how often all objects were looked at."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        self.count += phase == "stop" and info["generation"] == 2

    def take(self) -> int:
        """Returns how often that was since the last time."""
        count, self.count = self.count, 0
        return count


@pytest.fixture
def collections() -> Iterator[Collections]:
    """What is collected because somebody asks for it."""
    collections = Collections()
    was_on = gc.isenabled()
    gc.disable()
    gc.callbacks.append(collections)
    yield collections
    gc.callbacks.remove(collections)
    if was_on:
        gc.enable()


@pytest.fixture
def engine() -> Engine:
    """An engine with many sessions."""
    engine = Engine(
        device=torch.device("cpu"),
        limits=Limits(),
        storage=Storage(StorageConfig(url="memory://")),
        answers=Recorded(),
    )
    for number in range(1, MANY + 1):
        engine.open_session(number, f"sessions/{number}")
    return engine


def session_of(engine: Engine, number: int) -> Any:
    return engine._queues[number].session


def test_the_end_of_many_sessions_does_not_look_at_all_objects_each_time(
    engine: Engine, collections: Collections
) -> None:
    for number in range(1, MANY + 1):
        engine.close_session(number)
    # Each time a share of those that live is gone; the last ones each at once.
    assert collections.take() < MANY // 2
    engine.figures({})
    assert not collections.take()


def test_what_few_sessions_leave_is_given_back_with_the_next_figures(
    engine: Engine, collections: Collections
) -> None:
    engine.close_session(1)
    assert not collections.take()
    engine.figures({})
    assert collections.take() == 1


def test_much_memory_is_given_back_at_once(engine: Engine, collections: Collections) -> None:
    session_of(engine, 1).values[5] = torch.empty(ENDED_BYTES + 1, dtype=torch.uint8)
    engine.close_session(1)
    assert collections.take() == 1


def test_the_memory_of_one_among_few_is_given_back_at_once(
    engine: Engine, collections: Collections
) -> None:
    for number in range(ENDED_SHARE, MANY + 1):
        engine.close_session(number)
    collections.take()
    for number in range(1, ENDED_SHARE):
        engine.close_session(number)
        assert collections.take() == 1
