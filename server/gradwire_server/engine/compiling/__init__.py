"""Compiled steps: training steps that come again and again, made one native function.

A step is recorded by watching one: below autograd, forward, backward and optimizer are one sequence
of ATen operations. Another process compiles that; meanwhile steps go on as before.
"""

from gradwire_server.engine.compiling.builds import Builds
from gradwire_server.engine.compiling.compiling import Compiling
from gradwire_server.engine.compiling.cuda_graphs import CudaGraphs
from gradwire_server.engine.compiling.packages import default_folder
from gradwire_server.engine.compiling.replays import Replays
from gradwire_server.engine.compiling.step import Backend, Step
from gradwire_server.engine.compiling.watched import Watched

__all__ = [
    "Backend",
    "Builds",
    "Compiling",
    "CudaGraphs",
    "Replays",
    "Step",
    "Watched",
    "default_folder",
]
