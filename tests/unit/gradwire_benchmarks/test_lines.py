from gradwire_benchmarks.lines import LINES, NUMBERS, Comparison, Line, Measured, Range, evaluate
from gradwire_benchmarks.loop import VERBS
from gradwire_benchmarks.nets import NETS
from gradwire_benchmarks.suites import SUITES

SLOW_THEN_FAST = [
    {"local loop": 0.002, "own": 0.004, "echo": 0.002},
    {"local loop": 0.001, "own": 0.002, "echo": 0.001},
]


def line(comparison: Comparison, against: tuple[str, ...], goal: float | None = None) -> Line:
    return Line(
        number=1,
        suite="training",
        work="work",
        own="own",
        peer="peer",
        against=against,
        comparison=comparison,
        goal=goal,
    )


def test_a_comparison_is_of_two_things_in_the_same_round() -> None:
    result = evaluate(line(Comparison.SPEED, ("local loop",)), "net", SLOW_THEN_FAST)

    assert result.value == Range(low=0.5, median=0.5, high=0.5)
    assert result.own == Range(low=2.5, median=3.0, high=3.5)
    assert result.others == Range(low=1.25, median=1.5, high=1.75)


def test_a_peer_of_several_parts_is_their_sum() -> None:
    result = evaluate(line(Comparison.TIME, ("local loop", "echo")), "net", SLOW_THEN_FAST)

    assert result.value == Range(low=1.0, median=1.0, high=1.0)


def test_a_speed_reaches_its_goal_from_above_and_a_time_from_below() -> None:
    for comparison, at_the_goal, too_much in (
        (Comparison.SPEED, 0.5, 0.6),
        (Comparison.TIME, 2.0, 1.9),
        (Comparison.EXCESS, 1.5, 1.4),
    ):
        for goal, reached in ((at_the_goal, True), (too_much, False), (None, None)):
            result = evaluate(line(comparison, ("local loop",), goal), "net", SLOW_THEN_FAST)
            assert result.reached is reached


def test_a_line_is_filled_wherever_all_it_needs_was_measured() -> None:
    measured = Measured(
        rounds={
            "training": {
                "here": [{"import": 1.0, "sdk loop/100": 1.0, "local loop": 2.0}],
                "there": [{"sdk loop/100": 1.0}],
            }
        }
    )

    assert [(each.number, each.place) for each in measured.results()] == [(1, "here")]


def test_every_line_of_the_table_has_a_suite_that_measures_it() -> None:
    assert {each.suite for each in LINES} == set(SUITES)
    assert set(range(1, 13)) == set(NUMBERS)


def test_every_line_has_a_goal_with_every_net() -> None:
    for number in (1, 2, 3, 4, 5, 6):
        first = next(each for each in LINES if each.number == number)
        assert all(first.goal_at(net.name) is not None for net in NETS)


def test_there_is_a_line_for_each_verb() -> None:
    assert {each.own for each in LINES} >= {f"unary {verb}" for verb in VERBS}
