"""``gradwire top``: what goes on in a server, again and again."""

import time
from itertools import count
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table

from gradwire.v1 import sessions_pb2
from gradwire_server.commands.connection import Connection, ServerStubs, connecting
from gradwire_server.commands.inspection import all_sessions, server_info, worker_table
from gradwire_server.commands.output import console


class Rates:
    """Steps a second, from one look to the next."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._at = 0.0

    def update(self, sessions: list[sessions_pb2.Session], now: float) -> dict[str, float | None]:
        """Returns the rate of each session by name; none of one that is new.

        Args:
            sessions: All sessions.
            now: The time in seconds.
        """
        passed = now - self._at
        rates: dict[str, float | None] = {}
        for session in sessions:
            before = self._before.get(session.name)
            steps = session.activity.num_steps
            rates[session.name] = None if before is None else (steps - before) / passed
        self._before = {session.name: session.activity.num_steps for session in sessions}
        self._at = now
        return rates


@connecting
def top(
    connection: Connection,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    times: Annotated[int, typer.Option(min=0, help="How often to look; 0: until Ctrl-C.")] = 0,
) -> None:
    """Shows workers and sessions as a live table, until Ctrl-C."""
    rates = Rates()
    screen = console()
    with connection.open() as stubs:
        # The first look also tells whether there is a server, before the screen is taken.
        shown = _look(stubs, rates)
        if not screen.is_terminal:
            _print(stubs, rates, shown, screen, interval=interval, times=times or 1)
            return
        try:
            with Live(shown, console=screen, screen=times == 0, auto_refresh=False) as live:
                for number in count(1):
                    live.update(shown, refresh=True)
                    if number == times:
                        break
                    time.sleep(interval)
                    shown = _look(stubs, rates)
        except KeyboardInterrupt:
            pass


def _print(
    stubs: ServerStubs,
    rates: Rates,
    shown: Group,
    screen: Console,
    *,
    interval: float,
    times: int,
) -> None:
    """Prints one look after the other, where there is no terminal to keep them in place."""
    screen.print(shown)
    for _ in range(times - 1):
        time.sleep(interval)
        screen.print(_look(stubs, rates))


def _look(stubs: ServerStubs, rates: Rates) -> Group:
    info = server_info(stubs)
    sessions = list(all_sessions(stubs, with_activity=True))
    each = rates.update(sessions, time.monotonic())
    table = Table("session", "tenant", "worker", "bytes", "steps", "steps/s", "waiting")
    for session in sorted(sessions, key=lambda found: -found.activity.num_bytes):
        activity, rate = session.activity, each[session.name]
        table.add_row(
            *(session.name, session.tenant, session.worker, decimal(activity.num_bytes)),
            *(f"{activity.num_steps:,}", "" if rate is None else f"{rate:,.1f}"),
            str(activity.num_waiting),
        )
    return Group(worker_table(info), table)
