"""Writes checkpoints while the worker goes on: hashing and storing take none of its turns."""

import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import suppress

import structlog

from gradwire_server.engine.drafts import Draft
from gradwire_server.engine.failures import operation_failure
from gradwire_server.engine.session import Session
from gradwire_server.errors import GradwireError
from gradwire_server.storage import CheckpointStore, Manifest

log = structlog.get_logger(__name__)


class Writing:
    """A draft on its way to the storage.

    A thread of its own writes a copy. If the session may not hold a copy beside what it holds, the
    draft is written at once, and everybody waits.

    Args:
        session: The session, which is the active one.
        draft: Its state.
    """

    def __init__(self, session: Session, draft: Draft) -> None:
        self._session = session
        self._draft: Draft | None = draft
        self._store = CheckpointStore(session.storage)
        self._future: Future[Manifest] = Future()
        if draft.copy(session):
            session.drafts.add(draft)
            session.budget.note(draft)
            # It may outlast the session.
            threading.Thread(target=self._run, args=(draft,), name="gradwire-checkpoint").start()
        else:
            self._run(draft)

    def wait(self, until: float) -> bool:
        """Waits until a time of the monotonic clock at most; returns whether the end is reached.

        Nothing wakes the worker when it is, so its turns are used to look.
        """
        with suppress(TimeoutError):
            self._future.exception(max(0.0, until - time.monotonic()))
        return self._future.done()

    def result(self) -> Manifest:
        """Returns what was written, once the end is reached; the copy goes.

        Raises:
            GradwireError: The tenant has no room for it, or the storage failed; nothing was left.
        """
        self._forget()
        return self._future.result()

    def abandon(self) -> None:
        """Lets nothing stay of what is written, because nobody will know of it."""
        self._forget()
        self._future.add_done_callback(self._remove)

    def _forget(self) -> None:
        """Gives the copy up here, in a turn of its session, whose memory it is."""
        if self._draft is not None:
            self._session.drafts.discard(self._draft)
            self._draft = None

    def _run(self, draft: Draft) -> None:
        try:
            self._future.set_result(draft.write())
        except MemoryError as error:
            self._future.set_exception(operation_failure(error, "a checkpoint"))
        except Exception as error:  # noqa: BLE001  # raised again in a turn of the session
            self._future.set_exception(error)

    def _remove(self, written: "Future[Manifest]") -> None:
        if written.exception() is not None:
            return
        name = written.result().name
        try:
            self._store.delete(name)
        except GradwireError as error:
            log.warning("a checkpoint can't be deleted", checkpoint=name, error=error.message)


def written(session: Session, draft: Draft) -> Generator[None, None, Manifest]:
    """Writes a draft; yields as long as that takes, and returns what was written.

    Raises:
        GradwireError: The tenant has no room for it, or the storage failed; nothing was left there.
    """
    writing = Writing(session, draft)
    try:
        while not writing.wait(session.wait_until):
            yield
    except GeneratorExit:
        writing.abandon()
        raise
    return writing.result()
