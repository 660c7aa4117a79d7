"""Lines 11 and 12: imports, and the first step of a program; each in a fresh process."""

import subprocess
import sys
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
    """

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def burst(self, num_steps: int) -> Sample:
        """Runs it so many times; returns the mean of what it printed."""
        return {self._name: sum(self._run() for _ in range(num_steps)) / num_steps}

    def _run(self) -> float:
        finished = subprocess.run(
            [sys.executable, "-c", self._source],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        return float(finished.stdout)


def measure_starting(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds."""
    plan = bench.plan
    if plan.wants(SUITE, "import"):
        num_imports = 1 if plan.quick else IMPORTS_A_TURN
        imports = [
            (Program("import gradwire", _IMPORT.format(imports="import gradwire")), num_imports),
            (Program("import all used", _IMPORT.format(imports=_ALL_USED)), num_imports),
            (Program("import peers", _IMPORT.format(imports="import grpc, numpy")), num_imports),
            (Program("torch modules", _TORCH_MODULES.format(imports=_ALL_USED)), 1),
        ]
        yield "fresh process", _rounds(plan, imports)
    if plan.wants(SUITE, "first step"):
        steps = [
            (Program("first step", _FIRST_STEP.format(package="gradwire")), 1),
            (Program("first local step", _FIRST_STEP.format(package="torch")), 1),
        ]
        yield f"{NETS[0].name}, fresh process", _rounds(plan, steps)


def _rounds(plan: Plan, turns: list[tuple[Program, int]]) -> list[Sample]:
    """Returns the samples; files are read before anything counts, since they stay in memory."""
    if not plan.quick:
        take_turns(turns, 1)
    return take_turns(turns, plan.num_rounds)
