"""The commands that look at a server."""

from collections.abc import Iterator
from typing import Annotated

import typer
from grpc_health.v1 import health_pb2
from rich.table import Table

from gradwire.v1 import server_pb2, sessions_pb2
from gradwire_server.commands.connection import CallFailedError, Connection, ServerStubs, connecting
from gradwire_server.commands.output import console, time_text

PAGE_SIZE = 1000


@connecting
def health(
    connection: Connection,
    service: Annotated[
        str, typer.Option(help="One service, such as gradwire.v1.ModelService; else all.")
    ] = "",
) -> None:
    """Tells whether a server takes calls; the exit status is 0 if so, else 1."""
    try:
        with connection.open() as stubs:
            request = health_pb2.HealthCheckRequest(service=service)
            response = stubs.call(stubs.health.Check, request)
    except CallFailedError as error:
        typer.echo(str(error))
        raise typer.Exit(1) from None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    typer.echo(f"{connection.address}: {status}")
    raise typer.Exit(0 if status == "SERVING" else 1)


@connecting
def info(connection: Connection) -> None:
    """Shows versions, workers and limits of a server."""
    with connection.open() as stubs:
        response = server_info(stubs)
    output = console()
    output.print(
        f"gradwire {response.server_version}, torch {response.torch_version}, "
        f"Python {response.python_version}",
        highlight=False,
    )
    output.print(worker_table(response))
    limits = Table("limit", "value")
    for field, value in response.limits.ListFields():
        limits.add_row(field.name, f"{value:,}")
    output.print(limits)


@connecting
def workers(connection: Connection) -> None:
    """Lists the workers of a server."""
    with connection.open() as stubs:
        response = server_info(stubs)
    console().print(worker_table(response))


@connecting
def sessions(connection: Connection) -> None:
    """Lists the sessions that the caller sees, oldest first."""
    with connection.open() as stubs:
        listed = list(all_sessions(stubs))
    console().print(session_table(listed))


def server_info(stubs: ServerStubs) -> server_pb2.GetServerInfoResponse:
    """Returns what the server says of itself."""
    response: server_pb2.GetServerInfoResponse = stubs.call(
        stubs.server.GetServerInfo, server_pb2.GetServerInfoRequest()
    )
    return response


def all_sessions(
    stubs: ServerStubs, *, with_activity: bool = False
) -> Iterator[sessions_pb2.Session]:
    """Yields the sessions of all pages, if wanted with how they are doing."""
    request = sessions_pb2.ListSessionsRequest(page_size=PAGE_SIZE, with_activity=with_activity)
    while True:
        page = stubs.call(stubs.sessions.ListSessions, request)
        yield from page.sessions
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def worker_table(response: server_pb2.GetServerInfoResponse) -> Table:
    """Returns the workers as a table."""
    table = Table("worker", "device", "name", "state", "sessions", "restarts", "threads", "pid")
    for worker in response.workers:
        state = server_pb2.WorkerState.Name(worker.state).removeprefix("WORKER_STATE_").lower()
        table.add_row(
            *(worker.id, worker.device, worker.device_name, state, str(worker.num_sessions)),
            *(str(worker.num_restarts), str(worker.num_threads), str(worker.pid)),
        )
    return table


def session_table(listed: list[sessions_pb2.Session]) -> Table:
    """Returns sessions as a table."""
    table = Table(
        "session", "tenant", "worker", "device", "display name", "exact", "created", "last used"
    )
    for session in listed:
        table.add_row(
            *(session.name, session.tenant, session.worker, session.device, session.display_name),
            "yes" if session.exact else "no",
            *(time_text(session.create_time), time_text(session.last_use_time)),
        )
    return table
