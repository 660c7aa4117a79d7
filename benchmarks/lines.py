"""The lines of the table: what is compared with what, and what is to be reached."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.loop import VERBS
from benchmarks.measuring import Sample
from benchmarks.nets import NETS

SMALL_BYTES = 100
"""About as large as the message of a step that the server knows already."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line.

    Attributes:
        work: What is done, for people.
        own: What it is called in samples.
        floor: What in a sample it is made of, if nothing were lost on top; may be empty.
        peer: What it is compared with: how many times as fast it is; empty if it is with nothing.
        least_speed: At least so many local steps per second it should reach, by net.
        most_floor: At most so many times the floor it should take.
    """

    work: str
    own: str
    floor: tuple[str, ...] = ()
    peer: str = "local loop"
    least_speed: tuple[tuple[str, float], ...] = ()
    most_floor: float | None = None


def _least(*speeds: float) -> tuple[tuple[str, float], ...]:
    return tuple((net.name, speed) for net, speed in zip(NETS, speeds, strict=True))


LINES = (
    Line(work="local eager loop", own="local loop"),
    Line(
        work="SDK loop, loss every step",
        own="sdk loop/1",
        floor=("echo small", "local loop"),
    ),
    Line(
        work="SDK loop, loss every 100 steps",
        own="sdk loop/100",
        least_speed=(("notebook 3-5-1", 0.4),),
    ),
    Line(
        work="the same, exact=False",
        own="fast sdk loop/100",
        least_speed=_least(2.0, 2.0, 1.3, 1.0),
    ),
    Line(work="local loop over a DataLoader", own="local loader", peer="local loader"),
    Line(work="gradwire.train, exact=True", own="train", peer="local loader"),
    Line(
        work="gradwire.train",
        own="fast train",
        peer="local loader",
        least_speed=_least(4.0, 4.0, 1.5, 1.05),
    ),
    Line(
        work="five unary verbs",
        own="unary step",
        floor=tuple(f"{kind} {verb}" for verb in VERBS for kind in ("echo", "local")),
        most_floor=1.5,
    ),
    *(
        Line(
            work=f"  {verb}",
            own=f"unary {verb}",
            floor=(f"echo {verb}", f"local {verb}"),
            peer="",
            most_floor=1.5,
        )
        for verb in VERBS
    ),
    Line(work=f"bare gRPC echo of {SMALL_BYTES} bytes", own="echo small", peer=""),
)


ONE_HOST, OVER_TCP = "64 MB tensor, one host", "64 MB tensor, over TCP"
TRIPS = {
    ONE_HOST: (
        Line(
            work="to the server and back",
            own="trip shared",
            peer="trip bytes",
            least_speed=((ONE_HOST, 8.0),),
        ),
        Line(work="bare gRPC, one call", own="trip bytes", peer=""),
    ),
    OVER_TCP: (
        Line(
            work="to the server and back",
            own="trip sent",
            peer="trip stream",
            least_speed=((OVER_TCP, 0.95),),
        ),
        Line(work="bare gRPC, a stream of 1 MiB", own="trip stream", peer=""),
    ),
}
"""What becomes of large tensors, by where the server is."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """A median over the rounds, with the quartiles."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a line with one net.

    Attributes:
        net: The net.
        work: What was done.
        milliseconds: How long a step or call took.
        speed: Its steps per second, over those of its local peer in the same round.
        times_floor: Its time, over that of its floor in the same round.
        goal: What is to be reached, if anything.
        reached: Whether it was.
    """

    net: str
    work: str
    milliseconds: Range
    speed: Range | None
    times_floor: Range | None
    goal: str = ""
    reached: bool | None = None


def evaluate(line: Line, net: str, rounds: Sequence[Sample]) -> Result:
    """Returns the result of a line."""
    speed = floor = None
    if line.peer:
        speed = _range([sample[line.peer] / sample[line.own] for sample in rounds])
    if line.floor:
        floor = _range(
            [sample[line.own] / sum(sample[part] for part in line.floor) for sample in rounds]
        )
    goal, reached = "", None
    least_speed = dict(line.least_speed).get(net)
    if speed is not None and least_speed is not None:
        peer = "local" if line.peer.startswith("local") else "bare"
        goal, reached = f"≥ {least_speed:g} {peer}", speed.median >= least_speed
    elif floor is not None and line.most_floor is not None:
        goal, reached = f"≤ {line.most_floor:g} floor", floor.median <= line.most_floor
    return Result(
        net=net,
        work=line.work,
        milliseconds=_range([1000 * sample[line.own] for sample in rounds]),
        speed=speed,
        times_floor=floor,
        goal=goal,
        reached=reached,
    )


def _range(values: list[float]) -> Range:
    if len(values) == 1:
        return Range(low=values[0], median=values[0], high=values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Range(low=low, median=median, high=high)
