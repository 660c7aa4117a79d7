"""Processes of the benchmarks' own, for what is to have an interpreter to itself."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any

CONTEXT = get_context("spawn")


def make_process(
    initializer: Callable[..., None] | None = None, *arguments: Any
) -> ProcessPoolExecutor:
    """Returns an executor with one process, started by the first call.

    It ends with this process, whatever way this one ends.

    Args:
        initializer: What it does first, if anything.
        arguments: What that is given.
    """
    return ProcessPoolExecutor(
        1, mp_context=CONTEXT, initializer=_start, initargs=(initializer, arguments)
    )


def _start(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # An executor's process would wait for work for ever if the one that gives it is killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
