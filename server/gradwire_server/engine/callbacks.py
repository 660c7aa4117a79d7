"""Functions of the client's program that torch calls in the midst of an operation.

Hooks, closures, the `backward` of a user's autograd function, the factors of a learning rate
schedule: they are Python of the client, and stay there. What the session holds for one is a
:class:`Callback`. An operation that may call one is run as a :class:`Call`, which stops wherever a
callback is called; the client runs its function, which records operations like any other code,
and goes on with what it returned.
"""

import ctypes
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, Protocol

import torch

from gradwire_server.errors import GradwireError

MAX_CALLS = 64
"""How many calls of a session may wait for their callbacks at once: they nest, so few do."""


_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc


class CallAbandonedError(BaseException):
    """The client gave the call up. No exception of torch's: nothing on the way may catch it."""


class CallbackContext(Protocol):
    """What a stand-in of a snapshot needs to be made again."""

    def callback(self, number: int) -> "Callback":
        """Returns the stand-in for a function of the client, which knows it by `number`."""
        ...


class Callback:
    """Stands for a function of the client's program.

    Args:
        number: What the client knows it by.
        on_dead: Called with the number when nothing on the server can call it any more.
    """

    def __init__(self, number: int, on_dead: Callable[[int], None]) -> None:
        self.number = number
        self._on_dead = on_dead

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Asks the client.

        Raises:
            RuntimeError: The operation was not run as a call.
        """
        channel = Call.running
        if channel is None:
            raise RuntimeError(
                "a function of the client was called by an operation that can't wait for it; run "
                "the operation with gradwire.begin"
            )
        return channel.ask(Request(self, args, kwargs, torch.is_grad_enabled()))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Callback":
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"number": self.number}

    @staticmethod
    def rebuild_state(state: dict[str, Any], context: "CallbackContext") -> "Callback":
        """Returns the stand-in of a snapshot, for the client that still has the function."""
        return context.callback(state["number"])

    def __del__(self) -> None:
        self._on_dead(self.number)


class Request(NamedTuple):
    """What a call waits for: that the client calls its function with these arguments."""

    callback: Callback
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    grad_enabled: bool


class Finished(NamedTuple):
    """What a call ended with."""

    result: Any


class _Failed(NamedTuple):
    error: BaseException


class _Modes(NamedTuple):
    """The state of torch that belongs to a thread and operations depend on."""

    grad: bool
    inference: bool
    threads: int
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    autocast_cache: bool

    @classmethod
    def capture(cls, device_type: str) -> "_Modes":
        return cls(
            grad=torch.is_grad_enabled(),
            inference=torch.is_inference_mode_enabled(),
            threads=torch.get_num_threads(),
            autocast=tuple(
                (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
                for kind in {"cpu", device_type}
            ),
            autocast_cache=torch.is_autocast_cache_enabled(),
        )

    def run(self, function: Callable[[], Any]) -> Any:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        for kind, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)
        torch.set_autocast_cache_enabled(self.autocast_cache)
        with torch.inference_mode(self.inference), torch.set_grad_enabled(self.grad):
            return function()


class _Channel:
    """Between the thread of a call and the one that advances it."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Request | Finished | _Failed] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._asking = threading.Lock()

    def ask(self, request: Request) -> Any:
        """Called by a callback, on a thread of the call: returns what the client answers."""
        # On a GPU autograd has a thread of its own beside that of the call.
        with self._asking:
            self.events.put(request)
            answer = self.answers.get()
        if isinstance(answer, CallAbandonedError):
            raise answer
        return answer


class Call:
    """An operation that runs until it calls a callback, and goes on when it is answered.

    It has a thread of its own, as autograd keeps state in the thread that runs it, and one session
    may be amid a backward while others run theirs. Only one thread is ever at work: whoever
    advances a call waits until it asks or ends.

    Attributes:
        state: The last that became of it.
    """

    running: ClassVar[_Channel | None] = None

    def __init__(self, function: Callable[[], Any], device_type: str) -> None:
        self.state: Request | Finished | None = None
        modes, channel = _Modes.capture(device_type), _Channel()

        def run() -> None:
            # The thread must not refer to the call: it would never be found to be abandoned.
            try:
                event: Finished | _Failed = Finished(modes.run(function))
            except BaseException as error:  # noqa: BLE001  # raised again by who waits
                event = _Failed(error)
            channel.events.put(event)

        self._channel = channel
        self._thread = threading.Thread(target=run, name="gradwire-call", daemon=True)
        self._advance(self._thread.start)

    def __del__(self) -> None:
        if self.waits:
            self._channel.answers.put(CallAbandonedError())

    @property
    def waits(self) -> bool:
        """Whether it waits for an answer."""
        return isinstance(self.state, Request)

    def resume(self, answer: Any) -> None:
        """Goes on with what the callback returned.

        Raises:
            RuntimeError: The call does not wait for an answer.
        """
        if not self.waits:
            raise RuntimeError("this call waits for no callback")
        self._advance(lambda: self._channel.answers.put(answer))

    def abandon(self) -> None:
        """Ends the call where it waits, if it does; what it did until then remains."""
        if self.waits:
            with suppress(CallAbandonedError):
                self._advance(lambda: self._channel.answers.put(CallAbandonedError()))

    def _advance(self, start: Callable[[], None]) -> None:
        self.state = None
        before, Call.running = Call.running, self._channel
        try:
            start()
            event = self._channel.events.get()
        except GradwireError:
            self._stop()
            raise
        finally:
            Call.running = before
        if isinstance(event, _Failed):
            raise event.error
        self.state = event

    def _stop(self) -> None:
        """Ends the thread: the command took too long, and nothing of it may outlast its turn.

        An exception reaches it where it runs Python. If it never does, neither does this return,
        and the worker ends as with any command that does not come back.
        """
        while self._thread.is_alive():
            _raise_in_thread(
                ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(CallAbandonedError)
            )
            with suppress(GradwireError):
                self._thread.join()
