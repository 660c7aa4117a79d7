import pytest

from gradwire_benchmarks.crowd import Pace, summarize


def test_a_crowd_is_as_fast_as_its_sessions_together_and_as_fair_as_its_slowest() -> None:
    sample = summarize([Pace(num_steps=300, seconds=1.0), Pace(num_steps=100, seconds=1.0)])

    assert 1 / sample["crowd"] == pytest.approx(400)
    assert sample["fair share"] / sample["slowest"] == pytest.approx(0.5)
