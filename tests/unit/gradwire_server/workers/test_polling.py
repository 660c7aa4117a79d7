import os
import time

import pytest

from gradwire_server.workers.polling import BACK_OFF_SECONDS, CROWDED_SECONDS, Polling

PROMPT_SECONDS = 0.001


class Clock:
    """A clock that goes on when told to, and while others have the core."""

    def __init__(self) -> None:
        self.now = 100.0
        self.yield_seconds = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.now += self.yield_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(os, "sched_yield", clock.sched_yield)
    return clock


@pytest.fixture
def polling(clock: Clock) -> Polling:
    polling = Polling(PROMPT_SECONDS)
    polling.waited(PROMPT_SECONDS / 2)
    return polling


def test_nobody_polls_before_there_was_a_prompt_answer(clock: Clock) -> None:
    polling = Polling(PROMPT_SECONDS)
    assert not polling.goes_on(clock.now)
    polling.waited(PROMPT_SECONDS / 2)
    assert polling.goes_on(clock.now)


def test_polling_ends_with_the_time_that_counts_as_prompt(clock: Clock, polling: Polling) -> None:
    began = clock.now
    clock.now += 0.9 * PROMPT_SECONDS
    assert polling.goes_on(began)
    clock.now += 0.2 * PROMPT_SECONDS
    assert not polling.goes_on(began)


def test_after_a_long_wait_nobody_polls_until_there_is_a_short_one(
    clock: Clock, polling: Polling
) -> None:
    polling.waited(2 * PROMPT_SECONDS)
    assert not polling.goes_on(clock.now)
    polling.waited(PROMPT_SECONDS / 2)
    assert polling.goes_on(clock.now)


def test_a_core_that_somebody_else_computes_on_is_left_alone(
    clock: Clock, polling: Polling
) -> None:
    clock.yield_seconds = 2 * CROWDED_SECONDS
    polling.leave_core()
    polling.waited(PROMPT_SECONDS / 2)
    assert not polling.goes_on(clock.now)
    clock.now += 1.01 * BACK_OFF_SECONDS
    assert polling.goes_on(clock.now)


def test_to_leave_the_core_for_a_moment_changes_nothing(clock: Clock, polling: Polling) -> None:
    clock.yield_seconds = CROWDED_SECONDS / 2
    polling.leave_core()
    assert polling.goes_on(clock.now)
