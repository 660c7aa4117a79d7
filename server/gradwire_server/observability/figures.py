"""How the workers are doing: asked for over their links when somebody wants to know."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from gradwire_server.access.quotas import Quota
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.sessions.session import Session
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError
from gradwire_server.workers.pool import Worker, WorkerPool

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 2.0
"""How long to wait for a worker, which answers after the command that it runs."""

TELL_SECONDS = 1.0
"""How often workers are told what tenants hold on the others."""

Figures = Mapping[str, Any]
"""What `Engine.figures` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFigures:
    """How a session is doing.

    Attributes:
        num_bytes: How many bytes of tensors it holds.
        num_steps: How many training steps it took.
        num_waiting: How many of its commands wait in the worker.
    """

    num_bytes: int = 0
    num_steps: int = 0
    num_waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen at one look.

    Attributes:
        workers: What each worker said last, by its id.
        sessions: How each session is doing, by its number.
    """

    workers: Mapping[str, Figures] = field(default_factory=dict)
    sessions: Mapping[int, SessionFigures] = field(default_factory=dict)


class Lookout:
    """Asks workers how they are doing, and tells them of each other.

    Args:
        pool: The workers.
        registry: The sessions.
    """

    def __init__(self, pool: WorkerPool, registry: SessionRegistry) -> None:
        self._pool = pool
        self._registry = registry
        self._sight = Sight()
        pool.on_lost.append(lambda worker, _: self._forget(worker))

    async def look(self) -> Sight:
        """Returns how all workers are doing; of one that is busy for long, how it was before."""
        workers = self._pool.ready
        elsewhere = self._held_by_worker()
        answers = await asyncio.gather(
            *(self._ask(worker, _sum_without(elsewhere, worker.id)) for worker in workers)
        )
        seen = dict(self._sight.workers)
        seen.update(
            {worker.id: said for worker, said in zip(workers, answers, strict=True) if said}
        )
        sessions = {
            int(number): SessionFigures(
                num_bytes=each["bytes"], num_steps=each["steps"], num_waiting=each["waiting"]
            )
            for said in seen.values()
            for number, each in said["sessions"].items()
        }
        self._sight = Sight(workers=seen, sessions=sessions)
        return self._sight

    async def keep_telling(self) -> None:
        """Tells workers what tenants hold on the others, again and again, if quotas need that."""
        quotas = self._registry.quotas
        while quotas.has_limits(Quota.BYTES) and len(self._pool.workers) > 1:
            await self.look()
            await asyncio.sleep(TELL_SECONDS)

    def of(self, session: Session) -> SessionFigures:
        """Returns how a session was doing at the last look."""
        return self._sight.sessions.get(session.number, SessionFigures())

    async def _ask(self, worker: Worker, elsewhere: Mapping[str, int]) -> Figures | None:
        link = worker.link
        if link is None:
            return None
        frame = Frame(kind=FrameKind.FIGURES, payload=json.dumps(elsewhere).encode())
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reply = await link.call(frame).reply
        except (TimeoutError, LinkLostError):
            log.debug("worker does not say how it is doing", worker=worker.id)
            return None
        figures: Figures = json.loads(reply.payload)
        return figures

    def _held_by_worker(self) -> dict[str, Counter[str]]:
        """Returns how many bytes tenants held on each worker at the last look."""
        held: dict[str, Counter[str]] = {}
        for session in self._registry.all():
            tenants = held.setdefault(session.worker.id, Counter())
            tenants[session.owner] += self.of(session).num_bytes
        return held

    def _forget(self, worker: Worker) -> None:
        workers = {name: said for name, said in self._sight.workers.items() if name != worker.id}
        self._sight = Sight(workers=workers, sessions=self._sight.sessions)


def _sum_without(held: Mapping[str, Counter[str]], worker: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, tenants in held.items():
        if name != worker:
            total.update(tenants)
    return dict(total)
