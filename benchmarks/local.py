"""Local torch in a process of its own, as a user without a server has it: no gRPC beside it."""

import importlib
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Self

from benchmarks.loop import LoaderLoop, Loop
from benchmarks.measuring import Sample
from benchmarks.nets import Net

READ_EVERY = 100


class LocalTorch:
    """The process.

    Args:
        num_threads: With how many threads torch computes.
    """

    def __init__(self, num_threads: int) -> None:
        self._executor = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_start, initargs=(num_threads,)
        )

    def loop(self, net: Net, num_steps: int) -> float:
        """Returns the seconds that a step of a loop takes."""
        return self._executor.submit(_run, net, num_steps).result()

    def loader(self, net: Net, num_steps: int) -> float:
        """Returns the seconds that a step of a loop over a DataLoader takes."""
        return self._executor.submit(_run_loader, net, num_steps).result()

    def verbs(self, net: Net, num_steps: int) -> dict[str, float]:
        """Returns the median seconds that each verb takes."""
        return self._executor.submit(_run_verbs, net, num_steps).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()


class LocalLoop:
    """The local eager loop."""

    def __init__(self, torch: LocalTorch, net: Net) -> None:
        self._torch = torch
        self._net = net

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the seconds of a step and of each verb."""
        verbs = self._torch.verbs(self._net, num_steps)
        return {
            "local loop": self._torch.loop(self._net, num_steps),
            "local loader": self._torch.loader(self._net, num_steps),
            **{f"local {verb}": seconds for verb, seconds in verbs.items()},
        }


def _start(num_threads: int) -> None:
    importlib.import_module("torch").set_num_threads(num_threads)


@cache
def _loop(net: Net) -> Loop:
    return Loop(importlib.import_module("torch"), net)


def _run(net: Net, num_steps: int) -> float:
    return _loop(net).run(num_steps, READ_EVERY)


@cache
def _loader_loop(net: Net) -> LoaderLoop:
    return LoaderLoop(importlib.import_module("torch"), net)


def _run_loader(net: Net, num_steps: int) -> float:
    return _loader_loop(net).run(num_steps)


def _run_verbs(net: Net, num_steps: int) -> dict[str, float]:
    return _loop(net).run_verbs(num_steps)
