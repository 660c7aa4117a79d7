"""The process that compiles one graph: ``python -m gradwire_server.engine.compiling.builder``.

It writes a package of AOTInductor, a shared library. It has an interpreter of its
own, so that the worker's turns do not wait for it, and a memory of its own, so that no session pays
for it.
"""

import argparse
import contextlib
import os
import sys
import threading
from pathlib import Path

import torch

from gradwire_server.engine.compiling.graph import Graph
from gradwire_server.engine.compiling.modules import to_module
from gradwire_server.engine.compiling.native_code import compiler_options, separate_norms
from gradwire_server.engine.compiling.packages import packages


def build(graph: Graph, target: Path) -> None:
    """Compiles a graph to a package."""
    with torch.no_grad():
        inputs = tuple(info.make() for info in graph.inputs.values())
        program = torch.export.export(to_module(separate_norms(graph)), inputs)
    package = target.with_suffix(".pt2")
    try:
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(package), inductor_configs=compiler_options()
        )
        package.replace(target)
    finally:
        package.unlink(missing_ok=True)


def main() -> int:
    """Compiles a graph, if nobody has done so meanwhile; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--key", required=True, help="what to keep it under")
    parser.add_argument("--threads", type=int, required=True, help="threads of an operation")
    parser.add_argument("graph", type=Path, help="the graph as JSON")
    options = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(options.threads)
    with contextlib.suppress(OSError):
        os.nice(5)
    graph = Graph.from_json(options.graph.read_text(encoding="utf-8"))
    packages(options.folder).get(options.key, lambda target: build(graph, target))
    return 0


def _end_with_parent() -> None:
    """Ends this process when the worker has closed the other end of the standard input."""
    # Not by way of sys.stdin, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
