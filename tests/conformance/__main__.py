"""Runs all entries of torch's tables and writes the report: `python -m tests.conformance`."""

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tests.conformance.entries import all_entries, prepare, run
from tests.conformance.outcomes import Outcome
from tests.conformance.report import REPORT_PATH, render
from tests.processes import ServerProcess


def main() -> int:
    """Runs the entries; returns 1 if any result differs from torch's."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--first", type=int, default=12, help="calls of an entry's main variant")
    parser.add_argument("--other", type=int, default=2, help="calls of each other variant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="entries at a time")
    parser.add_argument("--only", default="", help="run entries with this in their name; no report")
    arguments = parser.parse_args()
    chosen = [entry for entry in all_entries() if arguments.only in entry[1]]
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), threads=1, workers=arguments.jobs) as server,
        ProcessPoolExecutor(
            arguments.jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=prepare,
            initargs=(server.address,),
        ) as pool,
        tqdm(total=len(chosen), unit="entry", disable=None) as progress,
    ):
        running = partial(
            run,
            num_first=arguments.first,
            num_other=arguments.other,
        )
        for outcome in pool.map(running, chosen):
            progress.update()
            outcomes.append(outcome)
            for label, text in outcome.failures.items():
                progress.write(f"{outcome.table} {outcome.name} ({label}): {text}", file=sys.stderr)
    if arguments.only:
        print(f"{sum(o.passed for o in outcomes)} of {len(outcomes)} entries pass")
    else:
        text = render(outcomes, num_first=arguments.first, num_other=arguments.other)
        REPORT_PATH.parent.mkdir(exist_ok=True)
        REPORT_PATH.write_text(text, encoding="utf-8")
        print(f"wrote {REPORT_PATH}")
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
