from gradwire_benchmarks.measuring import MAX_STEPS, STEPS, Sample, measure


class Recorded:
    def __init__(
        self, name: str, seconds: float, turns: list[tuple[str, int]], begin_seconds: float
    ) -> None:
        self._name = name
        self._seconds = seconds
        self._turns = turns
        self._begin_seconds = begin_seconds

    def burst(self, num_steps: int) -> Sample:
        self._turns.append((self._name, num_steps))
        return {self._name: self._seconds + self._begin_seconds / num_steps}


def run(
    seconds: float, num_rounds: int, begin_seconds: float = 0.0
) -> tuple[list[tuple[str, int]], list[Sample]]:
    """Returns the turns after warming up, and the samples."""
    turns: list[tuple[str, int]] = []
    contenders = [Recorded(name, seconds, turns, begin_seconds) for name in "ab"]
    samples = measure(contenders, num_rounds=num_rounds, burst_seconds=1.0)
    return turns[-num_rounds * len(contenders) :], samples


def test_contenders_take_turns_the_other_way_round_in_every_other_round() -> None:
    turns, samples = run(0.001, 3)

    assert "".join(name for name, _ in turns) == "abbaab"
    assert samples == [{"a": 0.001, "b": 0.001}] * 3


def test_a_burst_lasts_as_long_as_wanted() -> None:
    turns, _ = run(0.001, 1)

    assert {steps for _, steps in turns} == {1000}


def test_a_burst_is_neither_too_short_nor_too_long() -> None:
    slow, _ = run(1.0, 1)
    fast, _ = run(1e-9, 1)

    assert {steps for _, steps in slow} == {STEPS}
    assert {steps for _, steps in fast} == {MAX_STEPS}


def test_what_begins_and_ends_a_burst_does_not_make_it_short() -> None:
    turns, _ = run(0.001, 1, begin_seconds=0.2)

    ((_, num_steps), *_) = turns
    assert 0.75 < 0.2 + num_steps * 0.001 <= 1.0
