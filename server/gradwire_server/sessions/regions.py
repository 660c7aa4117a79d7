"""Regions: memory that sessions share with clients on this host.

The front makes the memory and hands it out, to the session's worker and to one client, for tickets
that it gave them before. It has no name in any file system: what nobody was given nobody can open,
and the kernel frees it with the last process that has it. Those who have it can't truncate it.
"""

import asyncio
import fcntl
import itertools
import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from gradwire.v1.regions import TICKET_BYTES
from gradwire_server.access.quotas import Quota, Quotas, quota_exceeded
from gradwire_server.errors import GradwireError, invalid, no_shared_memory
from gradwire_server.limits import Limits
from gradwire_server.sessions.answers import failure_of
from gradwire_server.sessions.session import Session
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, WorkerLink

log = structlog.get_logger(__name__)

CLAIM_SECONDS = 10.0
"""How long memory waits to be fetched by its client."""

POSSIBLE = hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")
"""Whether this system has such memory; Linux does."""


@dataclass(kw_only=True, eq=False)
class Region:
    """Memory shared by a session's worker and its client.

    Attributes:
        number: What it is called in the session.
        size_bytes: How large it is.
        session: Whose it is.
        descriptor: The file descriptor of the memory.
        on_release: Called when it is released.
    """

    number: int
    size_bytes: int
    session: Session
    descriptor: int
    on_release: list[Callable[[], None]] = field(default_factory=list)


class Regions:
    """The regions of all sessions.

    Args:
        limits: The limits in force.
        quotas: What tenants may use.

    Attributes:
        address: The address of the socket that gives memory out, as `socket.connect` takes it;
            none if no memory is shared.
        socket_names: What clients are told of it, and of others that are as good.
    """

    def __init__(self, limits: Limits, quotas: Quotas) -> None:
        self.address: str | None = None
        self.socket_names: list[str] = []
        self._limits = limits
        self._quotas = quotas
        self._regions: dict[Session, dict[int, Region]] = {}
        self._tickets: dict[bytes, tuple[Region, bool]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._regions.values()))

    async def create(
        self, session: Session, size_bytes: int, *, number: int = 0
    ) -> tuple[Region, bytes]:
        """Makes a region that worker and client can use; returns it and the client's ticket.

        Args:
            session: Whose it is.
            size_bytes: How large it is to be.
            number: What it is to be called in the session, in place of the one that is called so;
                any number if 0.

        Raises:
            GradwireError: NO_SHARED_MEMORY, INVALID_REQUEST, LIMIT_EXCEEDED, or the session ended.
        """
        if self.address is None:
            raise no_shared_memory()
        if size_bytes <= 0:
            raise invalid("size_bytes", f"is {size_bytes}; must be positive")
        if number < 0:
            raise invalid("region", f"is {number}; must be positive, or 0 for any")
        replaced = self._regions.get(session, {}).get(number)
        if replaced is not None:
            self.release(replaced)
        region = self._make(session, size_bytes, number)
        try:
            await session.settled()
            await self._open_on_worker(region, session.number, session.link)
        except LinkLostError:
            self.release(region)
            raise session.lost() from None
        except BaseException:
            self.release(region)
            raise
        if session.ended is not None:
            raise session.ended.with_traceback(None)
        ticket = self._ticket(region, holds=True)
        timer = asyncio.get_running_loop().call_later(CLAIM_SECONDS, self._expire, ticket)
        region.on_release.append(timer.cancel)
        return region, ticket

    def claim(self, ticket: bytes) -> tuple[Region, bool] | None:
        """Returns the region of a ticket, which is then used up; None if it is not good.

        Returns:
            The region, and whether it is to be released when its new holder goes away.
        """
        return self._tickets.pop(ticket, None)

    def release(self, region: Region) -> None:
        """Gives a region up; the memory is freed when nobody has it mapped any more."""
        held = self._regions.get(region.session, {})
        if held.pop(region.number, None) is None:
            return
        if not held:
            del self._regions[region.session]
        os.close(region.descriptor)
        self._quotas.give_back(Quota.SHARED_BYTES, region.session.owner, region.size_bytes)
        for ticket in [key for key, (other, _) in self._tickets.items() if other is region]:
            del self._tickets[ticket]
        for callback in region.on_release:
            callback()
        # Of a session that has ended the worker has forgotten everything.
        if region.session.ended is None and not region.session.is_moving:
            payload = json.dumps(region.number).encode()
            frame = Frame(
                kind=FrameKind.CLOSE_REGION, session=region.session.number, payload=payload
            )
            region.session.link.call(frame)

    async def move(self, session: Session, number: int, link: WorkerLink) -> None:
        """Gives the regions of a session to the worker that it moves to.

        Args:
            session: The session.
            number: What the new worker's frames call it.
            link: The link to that worker.

        Raises:
            LinkLostError: The new worker died, too.
        """
        for region in list(self._regions.get(session, {}).values()):
            with suppress(GradwireError):
                await self._open_on_worker(region, number, link)

    def _make(self, session: Session, size_bytes: int, number: int) -> Region:
        regions = self._regions.get(session, {})
        held = sum(region.size_bytes for region in regions.values())
        limit = self._limits.max_session_shared_bytes
        if held + size_bytes > limit:
            raise quota_exceeded(
                Quota.SHARED_BYTES,
                session.name,
                "max_session_shared_bytes",
                limit,
                held + size_bytes,
            )
        self._quotas.take(Quota.SHARED_BYTES, session.owner, size_bytes)
        try:
            descriptor = _sealed_memory(size_bytes)
        except OSError as error:
            self._quotas.give_back(Quota.SHARED_BYTES, session.owner, size_bytes)
            log.warning("no shared memory", error=str(error))
            raise no_shared_memory() from None
        region = Region(
            number=number or next(n for n in itertools.count(1) if n not in regions),
            size_bytes=size_bytes,
            session=session,
            descriptor=descriptor,
        )
        self._regions.setdefault(session, {})[region.number] = region
        region.on_release.append(session.watch_end(lambda _: self.release(region)))
        return region

    async def _open_on_worker(self, region: Region, number: int, link: WorkerLink) -> None:
        assert self.address is not None
        ticket = self._ticket(region, holds=False)
        request = {"region": region.number, "socket": self.address, "ticket": ticket.hex()}
        frame = Frame(
            kind=FrameKind.OPEN_REGION, session=number, payload=json.dumps(request).encode()
        )
        reply = await asyncio.shield(link.call(frame).reply)
        if reply.kind is FrameKind.FAILURE:
            raise failure_of(reply)

    def _ticket(self, region: Region, *, holds: bool) -> bytes:
        ticket = secrets.token_bytes(TICKET_BYTES)
        self._tickets[ticket] = region, holds
        return ticket

    def _expire(self, ticket: bytes) -> None:
        """Releases the region whose client has not come."""
        claimed = self.claim(ticket)
        if claimed is not None:
            self.release(claimed[0])


def _sealed_memory(size_bytes: int) -> int:
    """Returns a file descriptor of new memory that keeps its size.

    Raises:
        OSError: The system has none to give.
    """
    descriptor = os.memfd_create("gradwire-region", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
