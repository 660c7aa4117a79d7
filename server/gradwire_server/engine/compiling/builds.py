"""Compiled graphs, loaded into the worker, and the process beside it that compiles them."""

import os
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from gradwire_server.engine.compiling.capture import Captured
from gradwire_server.engine.compiling.graph import key_of
from gradwire_server.engine.compiling.packages import packages, require_private
from gradwire_server.storage.local import make_folder


class Compiled(Protocol):
    """A step that was made fast.

    Attributes:
        is_faster: Whether it takes less time than torch does, and gives the same; None until the
            two were compared.
    """

    is_faster: bool | None

    def __call__(self, tensors: list[torch.Tensor], /) -> Sequence[torch.Tensor]:
        """Takes the step, changing its inputs in place; returns the outputs. Empties the list."""


BUILDER_COMMAND = (sys.executable, "-m", "gradwire_server.engine.compiling.builder")
MAX_BUILD_SECONDS = 600.0
MAX_LOADED = 64
"""How many libraries stay loaded, whether or not a step still uses them. The next run of the same
net has its step at once, and need not compare it again."""
_LOOK_SECONDS = 0.05
_TEXT_BYTES = 4000


class BuildError(Exception):
    """A graph could not be compiled or loaded; the message says why."""


class Builds:
    """Compiles graphs one after the other, and loads them.

    Args:
        folder: Where they are kept, for this user alone: it holds native code that is executed.
        num_threads: How many threads an operation may use.
        command: What compiles; the options are appended.
    """

    exact = False
    is_timed = True

    def __init__(
        self, folder: Path, *, num_threads: int, command: Sequence[str] = BUILDER_COMMAND
    ) -> None:
        self._folder = folder
        self._packages = packages(folder)
        self._num_threads = num_threads
        self._command = command
        self._build: _Build | None = None
        self._failed: dict[str, str] = {}
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    def require_possible(self) -> None:
        """Raises BuildError if there is no C++ compiler: `CXX`, or `g++`."""
        compiler = os.environ.get("CXX") or "g++"
        if shutil.which(compiler) is None:
            raise BuildError(f"there is no C++ compiler {compiler!r}; CXX names another")

    def get(self, captured: Captured) -> Compiled | None:
        """Returns a compiled step; None while it is not there yet. To be asked again.

        Raises:
            BuildError: It can't be compiled or loaded.
        """
        loaded = self._loaded.get(captured.graph_json)
        if loaded is not None:
            self._loaded.move_to_end(captured.graph_json)
            return loaded
        if self._build is not None and not self._build.is_over():
            return None
        if self._build is not None:
            if self._build.failure:
                self._failed[self._build.key] = self._build.failure
            self._build = None
        key = key_of(captured.graph_json, self._num_threads)
        if key in self._failed:
            raise BuildError(self._failed[key])
        try:
            make_folder(self._folder)
            package = self._packages.get(key, _absent)
            for path in (self._folder, package.parent, package):
                require_private(path)
        except LookupError:
            self.require_possible()
            self._build = self._begin(key, captured.graph_json)
            return None
        except OSError as error:
            raise BuildError(f"what was compiled can't be used: {error}") from error
        try:
            # What torch._inductor.aoti_load_package makes; its import takes a second.
            loader: Any = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)
        except RuntimeError as error:
            raise BuildError(f"what was compiled can't be loaded: {error}") from error
        loaded = self._loaded[captured.graph_json] = _Loaded(loader.boxed_run)
        if len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)
        return loaded

    def close(self) -> None:
        """Ends what is being compiled."""
        if self._build is not None:
            self._build.end()
            self._build = None

    def _begin(self, key: str, graph_json: str) -> "_Build":
        try:
            command = [
                *self._command,
                *("--folder", str(self._folder)),
                *("--key", key),
                *("--threads", str(self._num_threads)),
            ]
            return _Build(key, graph_json, self._folder, command)
        except OSError as error:
            raise BuildError(f"no process could be started that compiles: {error}") from error


class _Loaded:
    """A library that is loaded."""

    def __init__(self, run: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]) -> None:
        self.is_faster: bool | None = None
        self._run = run

    def __call__(self, tensors: list[torch.Tensor], /) -> Sequence[torch.Tensor]:
        return self._run(tensors)


class _Build:
    """A process that compiles.

    Attributes:
        key: What it compiles.
        failure: Why it failed, once it is over; empty if it did not.
    """

    def __init__(self, key: str, graph_json: str, folder: Path, command: Sequence[str]) -> None:
        self.key = key
        self.failure = ""
        self._began = self._looked = time.monotonic()
        self._graph = folder / f"{key}.{os.getpid()}.json"
        self._graph.write_text(graph_json, encoding="utf-8")
        self._text = self._graph.with_suffix(".log")
        with self._text.open("w", encoding="utf-8") as text:
            self._process = subprocess.Popen(
                [*command, str(self._graph)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=text,
                env={
                    **os.environ,
                    "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
                    "TORCHINDUCTOR_COMPILE_THREADS": "1",
                },
            )

    def is_over(self) -> bool:
        """Returns whether it has ended; looks now and then only."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        if self._process.poll() is None and now - self._began < MAX_BUILD_SECONDS:
            return False
        self.end()
        return True

    def end(self) -> None:
        """Ends the process if it has not ended, and says why in `failure`."""
        self._process.kill()
        self._process.communicate()
        status = self._process.returncode
        if status:
            text = self._text.read_text(encoding="utf-8", errors="replace")[-_TEXT_BYTES:]
            last = text.strip().rpartition("\n")[2]
            self.failure = f"compiling failed with status {status}: {last}"
        for path in (self._graph, self._text):
            path.unlink(missing_ok=True)


def _absent(_: Path) -> None:
    raise LookupError
