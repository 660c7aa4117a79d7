"""The RPCs that the front answers itself."""

import platform
from dataclasses import asdict
from datetime import datetime
from importlib import metadata

from google.protobuf.timestamp_pb2 import Timestamp

from gradwire.v1 import server_pb2, sessions_pb2
from gradwire_server.access.identity import caller
from gradwire_server.access.quotas import Quota
from gradwire_server.calls import note_resource
from gradwire_server.errors import invalid
from gradwire_server.observability.figures import Lookout, SessionFigures
from gradwire_server.sessions.parking import Parking
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.sessions.session import Session
from gradwire_server.transport.keys import decode
from gradwire_server.transport.pages import after, page_size, page_token
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.pool import Worker, WorkerPool, WorkerState

_STATES = {
    WorkerState.STARTING: server_pb2.WORKER_STATE_STARTING,
    WorkerState.READY: server_pb2.WORKER_STATE_READY,
    WorkerState.STOPPED: server_pb2.WORKER_STATE_STOPPED,
}


def installed_version(distribution: str) -> str:
    """Returns the version of an installed distribution, without importing it; "" if unknown."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


class FrontRpcs:
    """Answers RPCs about sessions as such and about the server.

    Each method takes and returns serialized messages, and raises `GradwireError`.

    Args:
        registry: The sessions.
        parking: Finds sessions, parked ones too.
        pool: The workers.
        lookout: Tells how sessions are doing.
    """

    def __init__(
        self, registry: SessionRegistry, parking: Parking, pool: WorkerPool, lookout: Lookout
    ) -> None:
        self._lookout = lookout
        self._parking = parking
        self._registry = registry
        self._pool = pool
        self._versions = {name: installed_version(name) for name in ("gradwire", "torch")}

    async def create_session(self, payload: bytes) -> bytes:
        """CreateSession."""
        request = decode(sessions_pb2.CreateSessionRequest, payload)

        async def create() -> Frame:
            session = await self._registry.create(
                device=request.device,
                display_name=request.display_name,
                exact=request.exact if request.HasField("exact") else True,
            )
            note_resource(session.name, request.request_id)
            response = sessions_pb2.CreateSessionResponse(session=session_message(session))
            return Frame(kind=FrameKind.REPLY, payload=response.SerializeToString())

        frame = await self._registry.once(request.request_id, "CreateSession", payload, create)
        return frame.payload

    async def get_session(self, payload: bytes) -> bytes:
        """GetSession."""
        request = decode(sessions_pb2.GetSessionRequest, payload)
        note_resource(request.name)
        session = await self._parking.find(request.name)
        response = sessions_pb2.GetSessionResponse(session=session_message(session))
        return response.SerializeToString()

    async def list_sessions(self, payload: bytes) -> bytes:
        """ListSessions."""
        request = decode(sessions_pb2.ListSessionsRequest, payload)
        size = page_size(request.page_size)
        last = after(request.page_token) or "0"
        if not last.isdecimal():
            raise invalid("page_token", "is none that ListSessions returned")
        sessions = self._registry.page(page_size=size + 1, after=int(last))
        messages = [session_message(session) for session in sessions[:size]]
        if request.with_activity:
            await self._lookout.look()
            for session, message in zip(sessions, messages, strict=False):
                message.activity.CopyFrom(activity_message(self._lookout.of(session)))
        response = sessions_pb2.ListSessionsResponse(sessions=messages)
        if len(sessions) > size:
            response.next_page_token = page_token(sessions[size - 1].number)
        return response.SerializeToString()

    async def delete_session(self, payload: bytes) -> bytes:
        """DeleteSession."""
        request = decode(sessions_pb2.DeleteSessionRequest, payload)
        note_resource(request.name)
        await self._parking.delete(request.name, keep_runs=request.keep_runs)
        return sessions_pb2.DeleteSessionResponse().SerializeToString()

    async def create_region(self, payload: bytes) -> bytes:
        """CreateRegion."""
        request = decode(sessions_pb2.CreateRegionRequest, payload)
        note_resource(request.name)
        session = await self._parking.find(request.name)
        region, ticket = await self._registry.regions.create(
            session, request.size_bytes, number=request.region
        )
        response = sessions_pb2.CreateRegionResponse(
            region=region.number, size_bytes=region.size_bytes, ticket=ticket
        )
        return response.SerializeToString()

    async def get_server_info(self, payload: bytes) -> bytes:
        """GetServerInfo."""
        decode(server_pb2.GetServerInfoRequest, payload)
        known = [worker.torch_version for worker in self._pool.workers if worker.torch_version]
        response = server_pb2.GetServerInfoResponse(
            server_version=self._versions["gradwire"],
            torch_version=known[0] if known else self._versions["torch"],
            python_version=platform.python_version(),
            workers=[self._worker_message(worker) for worker in self._pool.workers],
            limits=self._limits_message(caller().tenant),
            region_sockets=self._registry.regions.socket_names,
        )
        return response.SerializeToString()

    def _worker_message(self, worker: Worker) -> server_pb2.Worker:
        """Returns a worker as a message, with the number of the sessions that the caller sees."""
        message = server_pb2.Worker()
        message.CopyFrom(worker.description)
        message.id = worker.id
        message.device = worker.device
        message.state = _STATES[worker.state]
        message.num_sessions = sum(
            held.worker is worker and held.parked is None for held in self._registry.visible()
        )
        message.num_restarts = worker.num_restarts
        return message

    def _limits_message(self, tenant: str) -> server_pb2.Limits:
        """Returns the limits in force for a tenant."""
        quotas = self._registry.quotas
        message = server_pb2.Limits(**asdict(self._registry.limits))
        for quota in Quota:
            limit = quotas.limit(quota, tenant)
            setattr(message, quota.of_tenant, type(getattr(message, quota.of_tenant))(limit))
        if message.max_tenant_message_bytes:
            message.max_message_bytes = min(
                message.max_message_bytes, message.max_tenant_message_bytes
            )
        return message


def activity_message(figures: SessionFigures) -> sessions_pb2.SessionActivity:
    """Returns how a session is doing as a message."""
    return sessions_pb2.SessionActivity(**asdict(figures))


def session_message(session: Session) -> sessions_pb2.Session:
    """Returns a session as a message."""
    message = sessions_pb2.Session(
        name=session.name,
        device=session.worker.device,
        worker="" if session.parked else session.worker.id,
        display_name=session.display_name,
        tenant=session.owner,
        exact=session.exact,
        parked=session.parked is not None,
    )
    message.create_time.CopyFrom(_timestamp(session.create_time))
    message.last_use_time.CopyFrom(_timestamp(session.last_use_time))
    if session.expire_time is not None:
        message.expire_time.CopyFrom(_timestamp(session.expire_time))
    return message


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
