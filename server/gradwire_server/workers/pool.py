"""The pool: worker processes, started, watched and started again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import structlog

from gradwire.v1 import server_pb2
from gradwire_server.workers.devices import count_cores
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.launcher import Launched, Launcher, describe_end
from gradwire_server.workers.link import LinkLostError, WorkerLink

log = structlog.get_logger(__name__)

START_TIMEOUT_SECONDS = 180.0
"""How long a worker may take until it is ready."""

EXIT_TIMEOUT_SECONDS = 5.0
"""How long a worker that has hung up may take to end before it is killed."""

FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A worker that was ready for so long is restarted at once; sooner, with back-off."""


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPED = "stopped"


class Worker:
    """One place of the pool. Its process changes when it dies.

    Attributes:
        id: Its name, such as ``worker-0``.
        device: Such as ``cpu`` or ``cuda:0``.
        state: What it is doing.
        link: The link to the process; there is one if the state is READY.
        num_sessions: How many sessions it holds; kept by who places them.
        num_restarts: How often its process was started again.
        description: What the process said about itself when it became ready.
        torch_version: The same, of torch.
    """

    def __init__(self, name: str, device: str) -> None:
        self.id = name
        self.device = device
        self.state = WorkerState.STARTING
        self.link: WorkerLink | None = None
        self.num_sessions = 0
        self.num_restarts = 0
        self.description = server_pb2.Worker()
        self.torch_version = ""

    def matches(self, device: str) -> bool:
        """Whether it serves a device asked for; "" means any, "cuda" means any of that type."""
        return device in {"", self.device, self.device.partition(":")[0]}


class WorkerPool:
    """Keeps one process running for each worker.

    Args:
        launcher: Starts the processes.
    """

    def __init__(self, launcher: Launcher) -> None:
        self.workers: tuple[Worker, ...] = ()
        self.on_change: list[Callable[[], None]] = []
        """Called when workers became ready, or ceased to be."""
        self.on_lost: list[Callable[[Worker, WorkerLink], None]] = []
        """Called when a worker died, before the calls that are pending on it fail."""
        self._launcher = launcher
        self._launched: dict[Worker, Launched] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._threads = 1

    def start(self, devices: Sequence[str], *, num_per_device: int, threads: int) -> None:
        """Begins to start the workers, and returns at once.

        Args:
            devices: Such as ``cpu`` and ``cuda:0``.
            num_per_device: How many workers each device gets.
            threads: How many threads an operation may use; if 0, the workers share the cores.
        """
        places = [device for device in devices for _ in range(num_per_device)]
        self._threads = threads or max(1, count_cores() // len(places))
        self.workers = tuple(Worker(f"worker-{i}", device) for i, device in enumerate(places))
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in self.workers]
        self._tell_change()

    @property
    def ready(self) -> list[Worker]:
        """The workers that take sessions."""
        return [worker for worker in self.workers if worker.state is WorkerState.READY]

    async def stop(self, timeout_seconds: float) -> None:
        """Lets the workers finish the calls they have, and ends them.

        Args:
            timeout_seconds: When to kill those that are not done.
        """
        self._stopping.set()
        for launched in self._launched.values():
            launched.link.send(Frame(kind=FrameKind.STOP))
        await asyncio.gather(*(held.end(timeout_seconds) for held in self._launched.values()))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def kill(self) -> None:
        """Ends all processes at once; calls that are pending fail."""
        self._stopping.set()
        for launched in self._launched.values():
            launched.kill()
            launched.link.close()

    async def _keep(self, worker: Worker) -> None:
        """Runs the worker's process again and again."""
        failures = 0
        while not self._stopping.is_set():
            seconds_ready = await self._run(worker)
            if self._stopping.is_set():
                break
            failures = 1 if seconds_ready > STEADY_SECONDS else failures + 1
            if failures > 1 or not seconds_ready:
                await asyncio.sleep(
                    min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (failures - 1))
                )
            worker.num_restarts += 1

    async def _run(self, worker: Worker) -> float:
        """Runs one process of the worker until it is gone.

        Returns:
            How many seconds it was ready; 0 if it never was.
        """
        ready_at: float | None = None
        try:
            launched = await self._launcher.launch(
                worker.device, threads=self._threads, on_lost=lambda: self._lose(worker)
            )
        except OSError as error:
            log.error("worker cannot be started", worker=worker.id, error=str(error))
            return 0.0
        self._launched[worker] = launched
        try:
            try:
                async with asyncio.timeout(START_TIMEOUT_SECONDS):
                    frame = await launched.link.ready
            except TimeoutError:
                log.error("worker does not become ready", worker=worker.id)
                launched.kill()
            except LinkLostError:
                # Told below, with how the process ended.
                pass
            else:
                ready_at = time.monotonic()
                self._welcome(worker, launched, frame)
                await asyncio.shield(launched.link.closed)
        finally:
            await launched.end(EXIT_TIMEOUT_SECONDS)
            del self._launched[worker]
        if not self._stopping.is_set():
            end = describe_end(launched.process.returncode)
            log.error("worker died", worker=worker.id, pid=launched.process.pid, end=end)
        return 0.0 if ready_at is None else max(time.monotonic() - ready_at, 0.001)

    def _welcome(self, worker: Worker, launched: Launched, frame: Frame) -> None:
        worker.description = server_pb2.Worker.FromString(frame.payload)
        worker.torch_version = frame.method
        worker.link = launched.link
        worker.num_sessions = 0
        worker.state = WorkerState.READY
        log.info("worker ready", worker=worker.id, device=worker.device, pid=launched.process.pid)
        self._tell_change()

    def _lose(self, worker: Worker) -> None:
        link, worker.link = worker.link, None
        worker.state = WorkerState.STOPPED if self._stopping.is_set() else WorkerState.STARTING
        worker.num_sessions = 0
        if link is not None and not self._stopping.is_set():
            for callback in self.on_lost:
                callback(worker, link)
            self._tell_change()

    def _tell_change(self) -> None:
        for callback in self.on_change:
            callback()
