"""Local torch in a process of its own, as a user without a server has it: no gRPC beside it."""

import importlib
from functools import cache
from typing import Any, Self

from gradwire.v1 import server_pb2
from gradwire_benchmarks.loop import LoaderLoop, Loop
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.nets import Net
from gradwire_benchmarks.processes import make_process

READ_EVERY = 100


class LocalTorch:
    """The process; it computes where a worker does, with as many threads.

    Args:
        worker: The worker.
    """

    def __init__(self, worker: server_pb2.Worker) -> None:
        self._executor = make_process(_start, worker.device, worker.num_threads)

    def loop(self, net: Net, num_steps: int, read_every: int) -> float:
        """Returns the seconds that a step of a loop takes."""
        return self._executor.submit(_run, net, num_steps, read_every).result()

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
    """The local eager loop.

    Args:
        torch: Where it runs.
        net: The net.
        read_every: After how many steps the loss is read.
    """

    def __init__(self, torch: LocalTorch, net: Net, read_every: int = READ_EVERY) -> None:
        self._torch = torch
        self._net = net
        self._read_every = read_every

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the seconds of a step."""
        return {"local loop": self._torch.loop(self._net, num_steps, self._read_every)}


class LocalLoader:
    """The local loop over a DataLoader."""

    def __init__(self, torch: LocalTorch, net: Net) -> None:
        self._torch = torch
        self._net = net

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the seconds of a step."""
        return {"local loader": self._torch.loader(self._net, num_steps)}


class LocalVerbs:
    """What the verbs do, done locally."""

    def __init__(self, torch: LocalTorch, net: Net) -> None:
        self._torch = torch
        self._net = net

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the median seconds of each verb."""
        verbs = self._torch.verbs(self._net, num_steps)
        return {f"local {verb}": seconds for verb, seconds in verbs.items()}


_device = "cpu"


def _start(device: str, num_threads: int) -> None:
    global _device  # noqa: PLW0603  # the process is made for it
    _device = device
    _torch().set_num_threads(num_threads)


def _torch() -> Any:
    return importlib.import_module("torch")


@cache
def _loop(net: Net) -> Loop:
    return Loop(_torch(), net, _device)


def _run(net: Net, num_steps: int, read_every: int) -> float:
    return _loop(net).run(num_steps, read_every)


@cache
def _loader_loop(net: Net) -> LoaderLoop:
    return LoaderLoop(_torch(), net, _device)


def _run_loader(net: Net, num_steps: int) -> float:
    return _loader_loop(net).run(num_steps)


def _run_verbs(net: Net, num_steps: int) -> dict[str, float]:
    return _loop(net).run_verbs(num_steps)
