"""What opens connections and sessions: everything that talks to servers."""

from gradwire.convert import convert
from gradwire.current import push_session
from gradwire.session import Session
from gradwire.transport.server import Server
from gradwire.transport.tls import Tls

__all__ = ["Server", "Tls", "open_session"]


def open_session(server: Server, *, checkpoint: str, exact: bool) -> Session:
    """Opens a session and makes it the one that operations go to; see `connection`."""
    session = Session(server, convert=convert, checkpoint=checkpoint, exact=exact)
    push_session(session)
    return session
