"""Whose turn it is on the worker's one thread."""

from collections import deque
from collections.abc import Iterator

from gradwire_server.engine.session import Session
from gradwire_server.engine.tasks import Task

Lane = deque[Task]
"""Tasks that run one after the other, the one in progress first."""


class Queue:
    """What one session has to do. Its lanes take turns: one for its commands, one for each run.

    Attributes:
        last_call: The call whose task had the last turn.
        session: The session; None for what belongs to none.
        tenant: Whose it is.
        commands: The lane of its commands.
        ready: The lanes that have tasks, the one whose turn is next first.
        parked: The lanes whose task waits for something that another lane of the session does.
    """

    def __init__(self, session: Session | None, tenant: str = "") -> None:
        self.session = session
        self.tenant = tenant
        self.commands: Lane = deque()
        self.ready: deque[Lane] = deque()
        self.parked: list[Lane] = []
        self.last_call = 0

    @property
    def lanes(self) -> list[Lane]:
        """All lanes that have tasks."""
        return [*self.ready, *self.parked]

    def put_back(self, lane: Lane) -> None:
        """Takes a lane back after its turn; what it has done may be what others wait for."""
        if lane and lane[0].blocked:
            self.parked.append(lane)
            return
        if lane:
            self.ready.append(lane)
        self.ready.extend(self.parked)
        self.parked.clear()

    def remove(self, lane: Lane) -> None:
        """Takes a lane out that has nothing more to do."""
        if lane in self.parked:
            self.parked.remove(lane)
        else:
            self.ready.remove(lane)


class Turns:
    """The queues that have something to do. Tenants take turns, and within one its sessions.

    So a tenant gets its share of the worker however many sessions another one floods.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, deque[Queue]] = {}
        self._order: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._order)

    def __iter__(self) -> Iterator[Queue]:
        for queues in self._tenants.values():
            yield from queues

    def add(self, queue: Queue) -> None:
        """Appends a queue; its turn comes after those of its tenant that wait already."""
        queues = self._tenants.get(queue.tenant)
        if queues is None:
            self._tenants[queue.tenant] = deque((queue,))
            self._order.append(queue.tenant)
        else:
            queues.append(queue)

    def take(self) -> Queue:
        """Removes and returns the queue whose turn it is."""
        tenant = self._order.popleft()
        queues = self._tenants[tenant]
        queue = queues.popleft()
        if queues:
            self._order.append(tenant)
        else:
            del self._tenants[tenant]
        return queue

    def remove(self, queue: Queue) -> None:
        """Removes a queue before its turn."""
        queues = self._tenants[queue.tenant]
        queues.remove(queue)
        if not queues:
            del self._tenants[queue.tenant]
            self._order.remove(queue.tenant)
