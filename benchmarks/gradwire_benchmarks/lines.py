"""The lines of the table: what is compared with what, and what is to be reached."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from gradwire_benchmarks.loop import VERBS
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.nets import NETS

SMALL_BYTES = 100
"""About as large as the message of a step that the server knows already."""


class Comparison(StrEnum):
    """How a figure is compared with its peer's."""

    SPEED = "times the speed"
    """The peer's time over the own; the goal is the least."""
    TIME = "times the time"
    """The own time over the peer's; the goal is the most."""
    EXCESS = "above"
    """How much the own figure is above the peer's; the goal is the most."""

    def of(self, own: float, peer: float) -> float:
        """Returns what it gives for two figures."""
        match self:
            case Comparison.SPEED:
                return peer / own
            case Comparison.TIME:
                return own / peer
            case _:
                return own - peer

    def reaches(self, value: float, goal: float) -> bool:
        """Returns whether that is as good as wanted."""
        return value >= goal if self is Comparison.SPEED else value <= goal


class Unit(StrEnum):
    """What figures are shown in; samples have seconds, bytes, or counts."""

    MILLISECONDS = "ms"
    KIBIBYTES = "KiB"
    COUNT = ""

    def of(self, value: float) -> float:
        """Returns a value of a sample in this unit."""
        return {Unit.MILLISECONDS: value * 1000, Unit.KIBIBYTES: value / 1024}.get(self, value)


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is compared, wherever it was measured: with some net, over some connection.

    Attributes:
        number: Lines with the same number answer the same question.
        suite: What measures it.
        work: What is done, for people.
        own: What it is called in samples.
        peer: What it is compared with, for people.
        against: What that is called in samples; several are added up.
        comparison: How they are compared.
        goal: What is to be reached: everywhere, or by place; nothing if it is for information.
        unit: What the figures are shown in.
    """

    number: int
    suite: str
    work: str
    own: str
    peer: str
    against: tuple[str, ...]
    comparison: Comparison = Comparison.SPEED
    goal: float | Mapping[str, float] | None = None
    unit: Unit = Unit.MILLISECONDS

    @property
    def keys(self) -> tuple[str, ...]:
        """What a sample has to have."""
        return (self.own, *self.against)

    def goal_at(self, place: str) -> float | None:
        """Returns what is to be reached at a place."""
        return self.goal.get(place) if isinstance(self.goal, Mapping) else self.goal


def _by_net(*goals: float) -> dict[str, float]:
    return {net.name: goal for net, goal in zip(NETS, goals, strict=True)}


_loop = partial(Line, suite="training", peer="local eager loop", against=("local loop",))
_run = partial(
    Line, suite="training", peer="local loop over a DataLoader", against=("local loader",)
)
_pipelined = partial(Line, suite="actors", peer="Ray actor, pipelined", against=("ray pipelined",))
_import = partial(
    Line,
    number=11,
    suite="starting",
    peer="import grpc, numpy",
    against=("import peers",),
    comparison=Comparison.TIME,
    goal=1.5,
)
_verb = partial(Line, number=6, suite="training", comparison=Comparison.TIME, goal=1.25)

LINES = (
    _loop(number=1, work="SDK loop, loss every 100 steps", own="sdk loop/100", goal=1.0),
    _loop(
        number=2,
        work="the same, exact=False",
        own="fast sdk loop/100",
        goal=_by_net(2.0, 2.0, 1.3, 1.0),
    ),
    Line(
        number=3,
        suite="training",
        work="SDK loop, loss every step",
        own="sdk loop/1",
        peer="bare echo + local step",
        against=("echo small", "local loop"),
        comparison=Comparison.TIME,
        goal=1.25,
    ),
    _run(number=4, work="gradwire.train", own="fast train", goal=_by_net(4.0, 4.0, 1.5, 1.05)),
    _run(number=4, work="the same, exact=True", own="train"),
    Line(
        number=5,
        suite="actors",
        work="SDK loop, loss every step",
        own="sdk loop/1",
        peer="Ray actor, waiting each step",
        against=("ray waiting",),
        goal=3.0,
    ),
    _pipelined(number=5, work="SDK loop, loss every 100 steps", own="sdk loop/100", goal=6.0),
    _pipelined(number=5, work="gradwire.train", own="fast train", goal=6.0),
    _verb(
        work="five unary verbs",
        own="unary step",
        peer="five bare echoes + local step",
        against=tuple(f"{kind} {verb}" for verb in VERBS for kind in ("echo", "local")),
    ),
    *(
        _verb(
            work=verb,
            own=f"unary {verb}",
            peer="bare echo + the same locally",
            against=(f"echo {verb}", f"local {verb}"),
        )
        for verb in VERBS
    ),
    Line(
        number=7,
        suite="transfers",
        work="tensor to the server and back, one host",
        own="trip shared",
        peer="bare gRPC, one call",
        against=("trip bytes",),
        goal=8.0,
    ),
    Line(
        number=8,
        suite="transfers",
        work="tensor to the server and back, TCP",
        own="trip sent",
        peer="bare gRPC, a stream of 1 MiB",
        against=("trip stream",),
        goal=0.95,
    ),
    Line(
        number=9,
        suite="crowd",
        work="a step of many sessions at once",
        own="crowd",
        peer="a step of one session alone",
        against=("alone",),
        goal=1.0,
    ),
    Line(
        number=9,
        suite="crowd",
        work="the slowest session among them",
        own="slowest",
        peer="the fair share of each",
        against=("fair share",),
        goal=0.7,
    ),
    Line(
        number=10,
        suite="memory",
        work="worker's memory per idle session",
        own="session",
        peer="parameters and optimizer",
        against=("state",),
        comparison=Comparison.EXCESS,
        goal=64.0,
        unit=Unit.KIBIBYTES,
    ),
    _import(work="import gradwire", own="import gradwire"),
    _import(work="import gradwire, nn, optim, and use them", own="import all used"),
    Line(
        number=11,
        suite="starting",
        work="modules of torch that this loads",
        own="torch modules",
        peer="none",
        against=(),
        comparison=Comparison.EXCESS,
        goal=0.0,
        unit=Unit.COUNT,
    ),
    Line(
        number=12,
        suite="starting",
        work="first step, the server started for it",
        own="first step",
        peer="import torch, first local step",
        against=("first local step",),
        comparison=Comparison.TIME,
        goal=2.0,
    ),
)

NUMBERS = tuple(sorted({line.number for line in LINES}))


@dataclass(frozen=True, kw_only=True)
class Range:
    """A median over the rounds, with the quartiles."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a line at one place.

    Attributes:
        number: The line's.
        work: What was done.
        place: With what net, or how much of it.
        unit: What `own` and `others` are in.
        own: The figure: of a step, a call, a session.
        peer: What it is compared with.
        others: The peer's figure.
        comparison: How they are compared.
        value: What the comparison gives, of the same rounds.
        goal: What is to be reached, if anything.
        reached: Whether it was.
    """

    number: int
    work: str
    place: str
    unit: Unit
    own: Range
    peer: str
    others: Range
    comparison: Comparison
    value: Range
    goal: float | None = None
    reached: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured.

    Attributes:
        rounds: By suite and place, a sample of each round.
        left_out: Which suites were left out, and why.
    """

    rounds: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def results(self, lines: Sequence[Line] = LINES) -> list[Result]:
        """Returns what became of each line, at each place where it was measured."""
        return [
            evaluate(line, place, rounds)
            for line in lines
            for place, rounds in self.rounds.get(line.suite, {}).items()
            if all(key in rounds[0] for key in line.keys)
        ]


def evaluate(line: Line, place: str, rounds: Sequence[Sample]) -> Result:
    """Returns what became of a line at a place."""
    own = [line.unit.of(sample[line.own]) for sample in rounds]
    others = [line.unit.of(sum(sample[key] for key in line.against)) for sample in rounds]
    pairs = list(zip(own, others, strict=True))
    goal = line.goal_at(place)
    value = spread([line.comparison.of(mine, other) for mine, other in pairs])
    reached = None if goal is None else line.comparison.reaches(value.median, goal)
    return Result(
        number=line.number,
        work=line.work,
        place=place,
        unit=line.unit,
        own=spread(own),
        peer=line.peer,
        others=spread(others),
        comparison=line.comparison,
        value=value,
        goal=goal,
        reached=reached,
    )


def spread(values: Sequence[float]) -> Range:
    """Returns the median of values, and their quartiles."""
    if len(values) == 1:
        return Range(low=values[0], median=values[0], high=values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Range(low=low, median=median, high=high)
