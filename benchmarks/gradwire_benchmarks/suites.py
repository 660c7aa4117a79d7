"""All there is to measure, one suite after the other."""

from collections.abc import Callable, Iterator
from typing import Final

from tqdm import tqdm

from gradwire_benchmarks.actors import measure_actors
from gradwire_benchmarks.crowd import measure_crowd
from gradwire_benchmarks.lines import Measured
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.memory import measure_memory
from gradwire_benchmarks.plan import LeftOutError
from gradwire_benchmarks.starting import measure_starting
from gradwire_benchmarks.training import measure_training
from gradwire_benchmarks.transfers import measure_transfers
from gradwire_benchmarks.workbench import Workbench

SUITES: Final[dict[str, Callable[[Workbench], Iterator[tuple[str, list[Sample]]]]]] = {
    "training": measure_training,
    "actors": measure_actors,
    "transfers": measure_transfers,
    "crowd": measure_crowd,
    "memory": measure_memory,
    "starting": measure_starting,
}
"""By name, what yields a place and the samples of all rounds there, place by place."""


def measure_lines(bench: Workbench) -> Measured:
    """Runs the suites that the plan's lines need."""
    measured = Measured()
    needed = [name for name in SUITES if any(line.suite == name for line in bench.plan.lines)]
    for name in (progress := tqdm(needed, desc="measuring")):
        progress.set_postfix_str(name)
        places = measured.rounds.setdefault(name, {})
        try:
            for place, rounds in SUITES[name](bench):
                places[place] = rounds
                progress.set_postfix_str(f"{name}, done with {place}")
        except LeftOutError as reason:
            measured.left_out[name] = str(reason)
    return measured
