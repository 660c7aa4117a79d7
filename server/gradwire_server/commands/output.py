"""How the commands print."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 200


def console() -> Console:
    """Returns a console; one that nobody looks at is wide, so that no name is broken."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PIPE_WIDTH)


def print_table(table: Table, least: Sequence[str] = ()) -> None:
    """Prints a table.

    Args:
        table: The table. The names in its first column are not broken.
        least: The columns that matter least, the first of them least of all: they are left out as
            far as the terminal is too narrow.
    """
    output = console()
    table.columns[0].no_wrap = True
    unbounded = output.options.update(max_width=10 * PIPE_WIDTH)
    for header in least:
        if output.measure(table, options=unbounded).maximum <= output.width:
            break
        table.columns = [column for column in table.columns if column.header != header]
    output.print(table)


def time_text(moment: Timestamp) -> str:
    """Returns a moment, in UTC, as tables show it."""
    return moment.ToDatetime().isoformat(sep=" ", timespec="seconds")
