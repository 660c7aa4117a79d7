"""A pool whose workers have fake links."""

from gradwire_server.limits import Limits
from gradwire_server.storage import StorageConfig
from gradwire_server.workers.launcher import Launcher
from gradwire_server.workers.pool import Worker, WorkerPool, WorkerState
from tests.fakes.link import FakeLink


class FakePool(WorkerPool):
    """A pool without processes.

    Args:
        devices: One worker each.
        ready: Whether the workers are ready from the start.
    """

    def __init__(self, *devices: str, ready: bool = True) -> None:
        super().__init__(Launcher(limits=Limits(), storage=StorageConfig(url="memory://")))
        self.workers = tuple(Worker(f"worker-{i}", device) for i, device in enumerate(devices))
        self.links = [FakeLink() for _ in devices]
        if ready:
            for index in range(len(devices)):
                self.make_ready(index)

    def make_ready(self, index: int) -> FakeLink:
        """Makes a worker ready, with a new link."""
        worker = self.workers[index]
        worker.link = self.links[index] = FakeLink()
        worker.state = WorkerState.READY
        for callback in self.on_change:
            callback()
        return self.links[index]

    def lose(self, index: int) -> None:
        """Lets a worker die, as the real pool does."""
        worker, link = self.workers[index], self.links[index]
        worker.link, worker.state, worker.num_sessions = None, WorkerState.STARTING, 0
        for callback in self.on_lost:
            callback(worker, link)
        link.lose()
