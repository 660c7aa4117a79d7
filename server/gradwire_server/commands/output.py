"""How the commands print."""

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

PIPE_WIDTH = 200


def console() -> Console:
    """Returns a console; one that nobody looks at is wide, so that no name is broken."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PIPE_WIDTH)


def time_text(moment: Timestamp) -> str:
    """Returns a moment, in UTC, as tables show it."""
    return moment.ToDatetime().isoformat(sep=" ", timespec="seconds")
