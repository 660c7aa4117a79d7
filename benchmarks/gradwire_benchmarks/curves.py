"""Growth curves: the time of a step as something grows, next to what it takes at the least."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tqdm import tqdm

from gradwire_benchmarks.crowd import NET, NUM_PROCESSES, READ_EVERY, Clients, round_of
from gradwire_benchmarks.echo import Echo
from gradwire_benchmarks.lines import SMALL_BYTES
from gradwire_benchmarks.local import LocalLoop
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.nets import NETS, ChainNet, Net
from gradwire_benchmarks.transfers import LEAST_TRIPS, BytesTrip, TensorTrip
from gradwire_benchmarks.workbench import Workbench

READ_STEPS = 20
"""After how many steps losses are read; steps of large nets take long."""
MAX_ROUNDS = 3
LEAST_SECONDS = 1.0
"""How long sessions train at once: long enough for each of many to take some steps."""

Points = dict[int, list[Sample]]
"""By what grows, the samples of all rounds."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of a plot.

    Attributes:
        label: What it shows, for people.
        keys: What that is called in samples; several are added up.
        is_floor: Whether it is what something else takes at the least.
    """

    label: str
    keys: tuple[str, ...]
    is_floor: bool = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What grows, and what is measured meanwhile.

    Attributes:
        name: What it is called in files.
        title: What it shows, for people.
        axis: What grows, with its unit.
        times: What takes the time.
        values: How far it grows.
        series: What is drawn.
        measure: Returns the samples of all rounds for one of the values.
    """

    name: str
    title: str
    axis: str
    times: str = "time per step (ms)"
    values: Sequence[int]
    series: tuple[Series, ...]
    measure: Callable[[Workbench, int], list[Sample]]

    @property
    def picture(self) -> str:
        """The name of the PNG file."""
        return f"benchmark-{self.name}.png"


def _train(make_net: Callable[[int], Net]) -> Callable[[Workbench, int], list[Sample]]:
    """Returns what measures steps with the net of a value."""

    def measure(bench: Workbench, value: int) -> list[Sample]:
        net = make_net(value)
        return bench.plan.measure(
            [
                LocalLoop(bench.torch, net, READ_STEPS),
                bench.sdk_loop(net, READ_STEPS),
                bench.sdk_loop(net, 1),
                Echo(bench.echo_channel, {"small": (SMALL_BYTES, SMALL_BYTES)}, fmean),
            ],
            least_steps=READ_STEPS,
            most_rounds=MAX_ROUNDS,
        )

    return measure


def _with_hidden(num_units: int) -> Net:
    inputs, _, outputs = NETS[1].sizes
    return replace(NETS[1], name=f"{num_units} units", sizes=(inputs, num_units, outputs))


def _with_batch(batch_size: int) -> Net:
    return replace(NETS[1], name=f"batches of {batch_size}", batch_size=batch_size)


def _with_operations(num_operations: int) -> Net:
    return ChainNet(
        name=f"{num_operations} operations",
        sizes=(3, 5, 1),
        batch_size=2,
        loss="MSELoss",
        optimizer="SGD",
        learning_rate=0.01,
        num_operations=num_operations,
    )


def _train_many(bench: Workbench, num_sessions: int) -> list[Sample]:
    """Returns samples of so many sessions that train at once."""
    local = LocalLoop(bench.torch, NET)
    seconds = 0.0 if bench.plan.quick else max(bench.plan.burst_seconds, LEAST_SECONDS)
    with Clients(
        bench.server.address,
        NET,
        num_processes=min(num_sessions, NUM_PROCESSES),
        num_sessions=num_sessions,
    ) as clients:
        clients.open(num_steps=READ_EVERY)
        return [
            round_of(clients, seconds, backwards=bool(number % 2)) | local.burst(READ_EVERY)
            for number in range(min(bench.plan.num_rounds, MAX_ROUNDS))
        ]


def _carry(bench: Workbench, num_bytes: int) -> list[Sample]:
    """Returns samples of so many bytes to the server and back."""
    return bench.plan.measure(
        [
            TensorTrip(bench.exact, "trip", num_bytes),
            BytesTrip(bench.echo_channel, "echo", num_bytes),
        ],
        least_steps=LEAST_TRIPS,
        most_rounds=MAX_ROUNDS,
    )


_STEPS = (
    Series(label="SDK loop, loss every step", keys=("sdk loop/1",)),
    Series(label="bare echo + local step", keys=("echo small", "local loop"), is_floor=True),
    Series(label=f"SDK loop, loss every {READ_STEPS} steps", keys=(f"sdk loop/{READ_STEPS}",)),
    Series(label="local eager loop", keys=("local loop",), is_floor=True),
)

CURVES = (
    Curve(
        name="parameters",
        title="Size of the net (64 inputs, a hidden layer, batches of 64, Adam)",
        axis="parameters",
        values=[_with_hidden(units).num_parameters for units in (1, 8, 64, 512, 4096, 32768)],
        series=_STEPS,
        measure=_train(lambda value: _with_hidden((value - 10) // 75)),
    ),
    Curve(
        name="batch",
        title="Size of batches (digits 64-32-10, Adam)",
        axis="samples per batch",
        values=(1, 8, 64, 512, 4096, 32768),
        series=_STEPS,
        measure=_train(_with_batch),
    ),
    Curve(
        name="operations",
        title="Length of the program (3-5-1 with operations in a row, SGD)",
        axis="operations in forward",
        values=(1, 4, 16, 64, 256, 1024),
        series=_STEPS,
        measure=_train(_with_operations),
    ),
    Curve(
        name="sessions",
        title="Sessions that train at once (notebook 3-5-1)",
        axis="sessions",
        times="time per step of all together (ms)",
        values=(1, 2, 4, 8, 16, 32, 64),
        series=(
            Series(label="all together, loss every 100 steps", keys=("crowd",)),
            Series(label="one of them alone", keys=("alone",), is_floor=True),
            Series(label="local eager loop", keys=("local loop",), is_floor=True),
        ),
        measure=_train_many,
    ),
    Curve(
        name="bytes",
        title="Size of a tensor, to the server and back on one host",
        axis="bytes",
        times="time there and back (ms)",
        values=(1_000, 8_000, 64_000, 512_000, 4_000_000, 16_000_000, 64_000_000),
        series=(
            Series(label="tensor", keys=("trip",)),
            Series(label="bare echo", keys=("echo",), is_floor=True),
        ),
        measure=_carry,
    ),
)
"""By what a step grows."""


def measure_curves(bench: Workbench) -> Iterator[tuple[str, Points]]:
    """Yields what was measured for each curve."""
    for curve in CURVES:
        values = curve.values[:2] if bench.plan.quick else curve.values
        yield (
            curve.name,
            {value: curve.measure(bench, value) for value in tqdm(values, desc=curve.name)},
        )
