"""The RPCs on what is kept: runs and checkpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gradwire.v1 import checkpoints_pb2, runs_pb2
from gradwire_server.access.identity import caller
from gradwire_server.errors import invalid
from gradwire_server.runs.registry import RunRegistry
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.storage import CheckpointStore, Manifest, Storage
from gradwire_server.storage.checkpoints import not_found
from gradwire_server.transport.front import session_message
from gradwire_server.transport.keys import decode
from gradwire_server.transport.pages import after, page_size, page_token
from gradwire_server.transport.statuses import FailedCallError
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError

T = TypeVar("T")
Answer = Callable[[bytes], Awaitable[bytes]]


class KeptRpcs:
    """Answers RPCs about runs and checkpoints, but those that follow a run.

    Each method takes and returns serialized messages, and raises `GradwireError`.

    Args:
        runs: The runs.
        sessions: The sessions.
        storage: Where checkpoints are.
    """

    def __init__(self, runs: RunRegistry, sessions: SessionRegistry, storage: Storage) -> None:
        self._runs = runs
        self._sessions = sessions
        self._checkpoints = CheckpointStore(storage)

    def answers(self) -> dict[str, Answer]:
        """Returns what answers each RPC, by its name."""
        return {
            "GetRun": self.get_run,
            "ListRuns": self.list_runs,
            "CancelRun": self.cancel_run,
            "PauseRun": self.pause_run,
            "ResumeRun": self.resume_run,
            "DeleteRun": self.delete_run,
            "GetCheckpoint": self.get_checkpoint,
            "ListCheckpoints": self.list_checkpoints,
            "RestoreCheckpoint": self.restore_checkpoint,
            "DeleteCheckpoint": self.delete_checkpoint,
        }

    async def get_run(self, payload: bytes) -> bytes:
        """GetRun."""
        request = decode(runs_pb2.GetRunRequest, payload)
        record = self._runs.record(request.name)
        return runs_pb2.GetRunResponse(run=record.run).SerializeToString()

    async def list_runs(self, payload: bytes) -> bytes:
        """ListRuns."""
        request = decode(runs_pb2.ListRunsRequest, payload)
        runs = [record.run for record in self._runs.records()]
        page, token = _page(runs, lambda run: run.name, request.page_size, request.page_token)
        return runs_pb2.ListRunsResponse(runs=page, next_page_token=token).SerializeToString()

    async def cancel_run(self, payload: bytes) -> bytes:
        """CancelRun."""
        request = decode(runs_pb2.CancelRunRequest, payload)
        record = await self._runs.cancel(request.name)
        return runs_pb2.CancelRunResponse(run=record.run).SerializeToString()

    async def pause_run(self, payload: bytes) -> bytes:
        """PauseRun."""
        request = decode(runs_pb2.PauseRunRequest, payload)
        record = await self._runs.pause(request.name)
        return runs_pb2.PauseRunResponse(run=record.run).SerializeToString()

    async def resume_run(self, payload: bytes) -> bytes:
        """ResumeRun."""
        request = decode(runs_pb2.ResumeRunRequest, payload)
        record = await self._runs.resume(request.name)
        return runs_pb2.ResumeRunResponse(run=record.run).SerializeToString()

    async def delete_run(self, payload: bytes) -> bytes:
        """DeleteRun."""
        request = decode(runs_pb2.DeleteRunRequest, payload)
        await self._runs.delete(request.name)
        return runs_pb2.DeleteRunResponse().SerializeToString()

    async def get_checkpoint(self, payload: bytes) -> bytes:
        """GetCheckpoint."""
        request = decode(checkpoints_pb2.GetCheckpointRequest, payload)
        manifest = await self._find(request.name)
        return checkpoints_pb2.GetCheckpointResponse(
            checkpoint=manifest.to_message()
        ).SerializeToString()

    async def list_checkpoints(self, payload: bytes) -> bytes:
        """ListCheckpoints."""
        request = decode(checkpoints_pb2.ListCheckpointsRequest, payload)
        if request.run and not request.run.startswith("runs/"):
            raise invalid("run", f"{request.run[:200]!r} is not of the form runs/{{run}}")
        series = self._runs.record(request.run).run.name if request.run else ""
        found = await asyncio.to_thread(self._checkpoints.list, series.removeprefix("runs/"))
        who = caller()
        manifests = [manifest for manifest in found if who.sees(manifest.tenant)]
        page, token = _page(manifests, lambda m: m.name, request.page_size, request.page_token)
        return checkpoints_pb2.ListCheckpointsResponse(
            checkpoints=[manifest.to_message() for manifest in page], next_page_token=token
        ).SerializeToString()

    async def restore_checkpoint(self, payload: bytes) -> bytes:
        """RestoreCheckpoint."""
        request = decode(checkpoints_pb2.RestoreCheckpointRequest, payload)
        frame = await self._sessions.once(
            request.request_id, "RestoreCheckpoint", payload, lambda: self._restore(request)
        )
        return frame.payload

    async def delete_checkpoint(self, payload: bytes) -> bytes:
        """DeleteCheckpoint."""
        request = decode(checkpoints_pb2.DeleteCheckpointRequest, payload)
        await self._find(request.name)
        await asyncio.to_thread(self._checkpoints.delete, request.name)
        return checkpoints_pb2.DeleteCheckpointResponse().SerializeToString()

    async def _find(self, name: str) -> Manifest:
        """Returns a checkpoint that the caller sees."""
        manifest = await asyncio.to_thread(self._checkpoints.read, name)
        if not caller().sees(manifest.tenant):
            raise not_found(name)
        return manifest

    async def _restore(self, request: checkpoints_pb2.RestoreCheckpointRequest) -> Frame:
        manifest = await self._find(request.name)
        while True:
            try:
                session, frame = await self._sessions.restore(
                    manifest, device=request.device, continues=False
                )
                break
            except LinkLostError:
                continue
        if frame.kind is FrameKind.FAILURE:
            raise FailedCallError(frame)
        response = checkpoints_pb2.RestoreCheckpointResponse.FromString(frame.payload)
        response.session.CopyFrom(session_message(session))
        return Frame(kind=FrameKind.REPLY, payload=response.SerializeToString())


def _page(
    items: Sequence[T], name: Callable[[T], str], size: int, token: str
) -> tuple[Sequence[T], str]:
    """Returns a page of a list, and the token of the next one; "" if there is none."""
    last, count = after(token), page_size(size)
    names = [name(item) for item in items]
    if last and last not in names:
        raise invalid("page_token", "is none that this method returned, or its last item is gone")
    first = names.index(last) + 1 if last else 0
    page = items[first : first + count]
    more = first + count < len(items)
    return page, page_token(name(page[-1])) if more else ""
