"""Line 5: a Ray actor that holds the net and does a whole step a call."""

import importlib
import importlib.util
import logging
import os
import time
from collections.abc import Iterator
from typing import Any, Self

from gradwire.v1 import server_pb2
from gradwire_benchmarks.loop import Loop
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.nets import Net
from gradwire_benchmarks.plan import LeftOutError
from gradwire_benchmarks.processes import make_process
from gradwire_benchmarks.workbench import Workbench

SUITE = "actors"
READ_EVERY = 100
OBJECT_STORE_BYTES = 100 * 1024 * 1024


class RayCluster:
    """A process that drives a Ray cluster of this machine, with one actor at a time.

    Raises:
        LeftOutError: Ray is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise LeftOutError("Ray is not installed; pip install 'gradwire[bench]'")
        self._executor = make_process()

    def make_actor(self, net: Net, worker: server_pb2.Worker) -> None:
        """Makes an actor that trains a net where a worker would; the one before ends."""
        self._executor.submit(_make_actor, net, worker.device, worker.num_threads).result()

    def run(self, num_steps: int, read_every: int) -> float:
        """Returns the seconds that a step takes, if losses are waited for after so many steps."""
        return self._executor.submit(_run, num_steps, read_every).result()

    def __enter__(self) -> Self:
        self._executor.submit(_start).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.submit(_stop).result()
        self._executor.shutdown()


class ActorSteps:
    """Calls of the actor, one for each step."""

    def __init__(self, cluster: RayCluster, read_every: int) -> None:
        self._cluster = cluster
        self._read_every = read_every
        self._name = "ray waiting" if read_every == 1 else "ray pipelined"

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the seconds of a step."""
        return {self._name: self._cluster.run(num_steps, self._read_every)}


def measure_actors(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds with each net."""
    with RayCluster() as cluster:
        for net in bench.plan.nets:
            cluster.make_actor(net, bench.server.worker)
            yield (
                net.name,
                bench.plan.measure(
                    [
                        bench.sdk_loop(net, 1),
                        ActorSteps(cluster, 1),
                        bench.sdk_loop(net, READ_EVERY),
                        ActorSteps(cluster, READ_EVERY),
                        bench.train_call(net, exact=False),
                    ]
                ),
            )


class Stepper:
    """What the actor is: a net and its batch.

    Args:
        net: The net.
        device: Where it is trained.
        num_threads: With how many threads.
    """

    def __init__(self, net: Net, device: str, num_threads: int) -> None:
        torch = importlib.import_module("torch")
        torch.set_num_threads(num_threads)
        self._loop = Loop(torch, net, device)

    def step(self) -> float:
        """Takes a step; returns its loss."""
        return self._loop.step()


_actor: Any = None


def _start() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    importlib.import_module("ray").init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _make_actor(net: Net, device: str, num_threads: int) -> None:
    global _actor  # noqa: PLW0603  # the process is made for it
    ray = importlib.import_module("ray")
    if _actor is not None:
        ray.kill(_actor)
    # Ray sets the threads of OpenMP by the number of processors.
    as_the_worker = ray.remote(num_cpus=num_threads, num_gpus=0 if device == "cpu" else 1)
    actor_class = as_the_worker(Stepper)
    _actor = actor_class.remote(net, device, num_threads)


def _run(num_steps: int, read_every: int) -> float:
    get = importlib.import_module("ray").get
    began = time.perf_counter()
    for step in range(1, num_steps + 1):
        loss = _actor.step.remote()
        if step % read_every == 0:
            get(loss)
    return (time.perf_counter() - began) / num_steps


def _stop() -> None:
    importlib.import_module("ray").shutdown()
