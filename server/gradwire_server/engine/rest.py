"""Whether a session can be parked without loss: it holds nothing that only a process can hold."""

from gradwire.v1 import sessions_pb2
from gradwire_server.engine.reach import has_live_graph, tensors_in
from gradwire_server.engine.session import Session
from gradwire_server.errors import GradwireError, Reason


def require_rest(
    session: Session, _: sessions_pb2.GetSessionRequest
) -> sessions_pb2.GetSessionResponse:
    """Fails while the session is amid something that a checkpoint does not hold.

    That is a graph that a backward may still go through, a tensor that is coming in parts, or a
    call that waits for a function of the client.

    Raises:
        GradwireError: NOT_READY.
    """
    if session.is_amid_command or has_live_graph(tensors_in(session.values.values())):
        raise GradwireError(Reason.NOT_READY, f"{session.name} is amid a training step")
    return sessions_pb2.GetSessionResponse()
