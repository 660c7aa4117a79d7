"""Runs all entries of torch's tables and writes the report: `python -m tests.conformance`."""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import gradwire
from tests.conformance import modules, operations, optimizers
from tests.conformance.outcomes import Outcome
from tests.conformance.report import REPORT_PATH, render
from tests.processes import ServerProcess


def runs(*, num_first: int, num_other: int) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Yields, for each entry of all tables, its name and what runs it."""
    counts = {"num_first": num_first, "num_other": num_other}
    for name, operation in operations.entries().items():
        yield name, partial(operations.run, name, operation, **counts)
    for name, module in modules.entries().items():
        yield name, partial(modules.run, name, module, **counts)
    for name, optimizer in optimizers.entries().items():
        yield name, partial(optimizers.run, name, optimizer)


def main() -> int:
    """Runs the entries; returns 1 if any result differs from torch's."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--first", type=int, default=24, help="calls of an entry's main variant")
    parser.add_argument("--other", type=int, default=4, help="calls of each other variant")
    parser.add_argument("--only", default="", help="run entries with this in their name; no report")
    arguments = parser.parse_args()
    # The samples of the tables provoke warnings of torch on purpose.
    warnings.simplefilter("ignore")
    # As the worker: the number of threads decides the order in which sums are computed.
    torch.set_num_threads(1)
    chosen = [
        (name, run)
        for name, run in runs(num_first=arguments.first, num_other=arguments.other)
        if arguments.only in name
    ]
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), threads=1) as server,
        tqdm(chosen, unit="entry", disable=None) as progress,
    ):
        for name, run in progress:
            progress.set_postfix_str(name)
            with gradwire.connect(server.address):
                outcome = run()
            outcomes.append(outcome)
            for label, text in outcome.failures.items():
                progress.write(f"{outcome.table} {name} ({label}): {text}", file=sys.stderr)
    if arguments.only:
        print(f"{sum(o.passed for o in outcomes)} of {len(outcomes)} entries pass")
    else:
        REPORT_PATH.write_text(
            render(outcomes, num_first=arguments.first, num_other=arguments.other), encoding="utf-8"
        )
        print(f"wrote {REPORT_PATH}")
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
