"""Which worker a new session goes to."""

import asyncio

from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.workers.pool import Worker, WorkerPool, WorkerState

READY_TIMEOUT_SECONDS = 120.0
"""How long a new session waits for a worker to become ready."""

RETRY_AFTER_SECONDS = 1.0


class Placement:
    """Places sessions on the least loaded ready worker.

    Args:
        pool: The workers.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._change = asyncio.Event()
        self._closed: GradwireError | None = None
        pool.on_change.append(self._tell_change)

    def close(self, error: GradwireError) -> None:
        """Fails those who wait for a worker, now and later."""
        self._closed = error
        self._tell_change()

    async def choose(self, device: str) -> Worker:
        """Returns the least loaded ready worker of a device, waiting for one if need be.

        Raises:
            GradwireError: INVALID_REQUEST if no worker has such a device, NOT_READY if none
                became ready in time, or the one that `close` was given.
        """
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                while (worker := self._find(device)) is None:
                    await self._change.wait()
        except TimeoutError:
            raise not_ready() from None
        return worker

    def any_ready(self) -> Worker:
        """Returns the least loaded ready worker.

        Raises:
            GradwireError: NOT_READY if there is none.
        """
        worker = self._find("")
        if worker is None:
            raise not_ready()
        return worker

    def _tell_change(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    def _find(self, device: str) -> Worker | None:
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        workers = [worker for worker in self._pool.workers if worker.matches(device)]
        if self._pool.workers and not workers:
            there = ", ".join(dict.fromkeys(worker.device for worker in self._pool.workers))
            raise invalid("device", f'this server has no "{device[:64]}"; it has {there}')
        ready = [worker for worker in workers if worker.state is WorkerState.READY]
        return min(ready, key=lambda worker: worker.num_sessions, default=None)


def not_ready() -> GradwireError:
    """Returns the error for a server whose workers are still starting."""
    return GradwireError(
        Reason.NOT_READY,
        "No worker is ready yet; try again shortly.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
