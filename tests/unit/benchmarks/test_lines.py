from benchmarks.lines import LINES, Line, Range, evaluate
from benchmarks.loop import VERBS

SLOW_THEN_FAST = [
    {"local loop": 0.002, "own": 0.004, "echo": 0.002},
    {"local loop": 0.001, "own": 0.002, "echo": 0.001},
]


def test_a_ratio_is_of_two_things_in_the_same_round() -> None:
    line = Line(work="work", own="own", floor=("local loop", "echo"))

    result = evaluate(line, "net", SLOW_THEN_FAST)

    assert result.speed == Range(low=0.5, median=0.5, high=0.5)
    assert result.times_floor == Range(low=1.0, median=1.0, high=1.0)
    assert result.milliseconds == Range(low=2.5, median=3.0, high=3.5)


def test_a_goal_is_reached_at_its_bound() -> None:
    line = Line(work="work", own="own", least_speed=(("net", 0.5),))

    assert evaluate(line, "net", SLOW_THEN_FAST).reached is True
    assert evaluate(line, "another net", SLOW_THEN_FAST).reached is None


def test_a_goal_is_missed_above_its_floor() -> None:
    line = Line(work="work", own="own", floor=("echo",), most_floor=1.5)

    result = evaluate(line, "net", SLOW_THEN_FAST)

    assert result.goal == "≤ 1.5 floor"
    assert result.reached is False


def test_there_is_a_line_for_each_verb() -> None:
    assert {line.own for line in LINES} >= {f"unary {verb}" for verb in VERBS}
