"""Functions of the script that torch calls amid an operation: hooks, closures and the like.

The function stays here; the session holds a stand-in for it. An operation that may call one is run
by :func:`run`: wherever torch calls the function, the server stops and asks, the function runs
here and records operations like any other code, and the operation goes on with what it returned.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradwire.calls import RemoteObject, unpack
from gradwire.grad_mode import set_grad_enabled
from gradwire.recorder.slots import Slot

if TYPE_CHECKING:
    from gradwire.session import Session


class Callback(RemoteObject):
    """Stands for a function of the script in operations.

    Args:
        session: The session whose operations may call it.
        function: The function.
        in_backward: Whether a backward may call it; from then on `backward` waits for the server,
            until nothing there can call the function any more.
    """

    __gradwire_unsupported__ = "it stands for a function of your program"

    def __init__(
        self, session: "Session", function: Callable[..., Any], *, in_backward: bool = False
    ) -> None:
        self.number = session.callbacks.add(function, in_backward=in_backward)
        super().__init__(session.record("gradwire.callback", (self.number,), {}))


def run(session: "Session", name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operation that may call functions of the script, and waits for its end.

    Args:
        session: Where.
        name: The operation's name in the catalog.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        What the operation returns, as tensors, values and structures of them.

    Raises:
        GradwireError: The operation failed.
        Exception: What a function raised; the operation ended there.
    """
    session.require_untraced(name)
    call = RemoteObject(session.record("gradwire.begin", (name, *args), kwargs))
    while True:
        state = session.fetch("gradwire.pending", (call,), {})
        session.callbacks.discard(state["dead"])
        value = unpack(session, _value_of(call), state["value"])
        if state["callback"] is None:
            return value
        function = session.callbacks.get(state["callback"])
        function_args, function_kwargs = value
        try:
            with set_grad_enabled(state["grad_enabled"]):
                answer = function(*function_args, **function_kwargs)
            session.record("gradwire.resume", (call, answer), {}, wanted=False)
        except BaseException:
            session.record("gradwire.abandon", (call,), {}, wanted=False)
            raise


def _value_of(call: RemoteObject) -> RemoteObject:
    slot: Slot = call._slot.session.record("gradwire.pending_value", (call,), {})
    return RemoteObject(slot)
