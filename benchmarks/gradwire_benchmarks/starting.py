"""Lines 11 and 12: imports, and the first step of a program; each in a fresh process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from gradwire_benchmarks.measuring import Sample, take_turns
from gradwire_benchmarks.nets import NETS
from gradwire_benchmarks.plan import Plan
from gradwire_benchmarks.workbench import Workbench

SUITE = "starting"
TIMEOUT_SECONDS = 120.0
IMPORTS_A_TURN = 3

_IMPORT = """
import time
began = time.perf_counter()
{imports}
print(time.perf_counter() - began)
"""

_ALL_USED = """
import gradwire as torch
import gradwire.nn as nn
import gradwire.optim as optim
torch.tensor, nn.Linear, optim.SGD
"""
"""`import gradwire` alone loads next to nothing."""

_TORCH_MODULES = """
import sys
{imports}
print(sum(name.partition(".")[0] == "torch" for name in sys.modules))
"""

_FIRST_STEP = """
import time
began = time.perf_counter()
import {package} as torch
import {package}.nn as nn
import {package}.optim as optim
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))
optimizer = optim.SGD(model.parameters(), lr=0.01)
optimizer.zero_grad()
loss = nn.MSELoss()(model(torch.ones(2, 3)), torch.ones(2, 1))
loss.backward()
optimizer.step()
loss.item()
print(time.perf_counter() - began)
"""


class Program:
    """A program that prints one number.

    Args:
        name: What the number is called in samples.
        source: The program.
        folder: Where Python keeps the modules that it has compiled. A source tree may have none,
            and be told to keep none; installed packages have theirs.
    """

    def __init__(self, name: str, source: str, folder: str) -> None:
        self._name = name
        self._source = source
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {**kept, "PYTHONPYCACHEPREFIX": folder}

    def burst(self, num_steps: int) -> Sample:
        """Runs it so many times; returns the mean of what it printed."""
        return {self._name: sum(self._run() for _ in range(num_steps)) / num_steps}

    def _run(self) -> float:
        finished = subprocess.run(
            [sys.executable, "-c", self._source],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            timeout=TIMEOUT_SECONDS,
        )
        return float(finished.stdout)


def measure_starting(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds."""
    with tempfile.TemporaryDirectory(prefix="gradwire-bench-") as folder:
        yield from _measure(bench.plan, folder)


def _measure(plan: Plan, folder: str) -> Iterator[tuple[str, list[Sample]]]:
    def program(name: str, source: str, **parts: str) -> Program:
        return Program(name, source.format(**parts), folder)

    if plan.wants(SUITE, "import"):
        num_imports = 1 if plan.quick else IMPORTS_A_TURN
        imports = [
            (program("import gradwire", _IMPORT, imports="import gradwire"), num_imports),
            (program("import all used", _IMPORT, imports=_ALL_USED), num_imports),
            (program("import peers", _IMPORT, imports="import grpc, numpy"), num_imports),
            (program("torch modules", _TORCH_MODULES, imports=_ALL_USED), 1),
        ]
        yield "fresh process", _rounds(plan, imports)
    if plan.wants(SUITE, "first step"):
        steps = [
            (program("first step", _FIRST_STEP, package="gradwire"), 1),
            (program("first local step", _FIRST_STEP, package="torch"), 1),
        ]
        yield f"{NETS[0].name}, fresh process", _rounds(plan, steps)


def _rounds(plan: Plan, turns: list[tuple[Program, int]]) -> list[Sample]:
    """Returns the samples; files are read and modules compiled before anything counts."""
    if not plan.quick:
        take_turns(turns, 1)
    return take_turns(turns, plan.num_rounds)
