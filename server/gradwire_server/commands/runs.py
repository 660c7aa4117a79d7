"""``gradwire runs``: what trains, how it goes, and its end."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from gradwire.bar import ProgressBar
from gradwire.history import History, state_name, state_text
from gradwire.v1 import runs_pb2
from gradwire_server.commands.connection import Connection, ServerStubs, connecting
from gradwire_server.commands.output import print_table, time_text

app = typer.Typer(name="runs", help="Training runs of a server.", no_args_is_help=True)

PREFIX = "runs/"
INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""
Name = Annotated[str, typer.Argument(help="The run's name.", show_default=False)]


@app.command("list")
@connecting
def list_runs(connection: Connection) -> None:
    """Lists the runs, newest first."""
    with connection.open() as stubs:
        runs = list(all_runs(stubs))
    print_table(
        run_table(runs), least=("exact", "epoch", "created", "validation", "time", "name", "loss")
    )


@app.command()
@connecting
def watch(
    connection: Connection,
    name: Name,
    from_event: Annotated[int, typer.Option(help="The first event to show.")] = 1,
) -> None:
    """Follows a run until it ends; the exit status is 0 if it succeeded, else 1."""
    history = History()
    request = runs_pb2.WatchRunRequest(name=full_name(name), from_event=from_event)
    try:
        with connection.open() as stubs, ProgressBar(title=name.removeprefix(PREFIX)) as bar:
            for response in stubs.stream(stubs.runs.WatchRun, request):
                history.add(response.event)
                bar.update(response.event, history)
    except KeyboardInterrupt:
        typer.echo(f"{full_name(name)} goes on; gradwire runs cancel ends it", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{full_name(name)}: {state_text(history.state, history.reason)}")
    if history.ended.failure.message:
        typer.echo(history.ended.failure.message, err=True)
    raise typer.Exit(0 if history.state == "SUCCEEDED" else 1)


@app.command()
@connecting
def cancel(connection: Connection, name: Name) -> None:
    """Ends a run after the step it is in; steps taken stay."""
    with connection.open() as stubs:
        request = runs_pb2.CancelRunRequest(name=full_name(name))
        run = stubs.call(stubs.runs.CancelRun, request, timeout_seconds=None).run
    typer.echo(f"{run.name}: {state_name(run.state)}")


@app.command()
@connecting
def pause(connection: Connection, name: Name) -> None:
    """Lets a run rest after the step it is in."""
    with connection.open() as stubs:
        request = runs_pb2.PauseRunRequest(name=full_name(name))
        run = stubs.call(stubs.runs.PauseRun, request, timeout_seconds=None).run
    typer.echo(f"{run.name}: {state_name(run.state)}")


@app.command()
@connecting
def resume(connection: Connection, name: Name) -> None:
    """Lets a run that rests go on."""
    with connection.open() as stubs:
        request = runs_pb2.ResumeRunRequest(name=full_name(name))
        run = stubs.call(stubs.runs.ResumeRun, request, timeout_seconds=None).run
    typer.echo(f"{run.name}: {state_name(run.state)}")


@app.command()
@connecting
def delete(connection: Connection, name: Name) -> None:
    """Forgets a run that has ended, its events and its checkpoints."""
    with connection.open() as stubs:
        request = runs_pb2.DeleteRunRequest(name=full_name(name))
        stubs.call(stubs.runs.DeleteRun, request, timeout_seconds=None)
    typer.echo(f"{full_name(name)} deleted")


def all_runs(stubs: ServerStubs) -> Iterator[runs_pb2.Run]:
    """Yields the runs of a server, newest first."""
    request = runs_pb2.ListRunsRequest(page_size=1000)
    while True:
        response = stubs.call(stubs.runs.ListRuns, request)
        yield from response.runs
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def run_table(runs: list[runs_pb2.Run]) -> Table:
    """Returns a table of runs."""
    table = Table(
        "run", "name", "state", "exact", "step", "epoch", "loss", "validation", "time", "created"
    )
    for run in runs:
        state = state_text(state_name(run.state), run.reason)
        table.add_row(
            *(run.name.removeprefix(PREFIX), run.display_name, state),
            "yes" if run.exact else "no",
            *(f"{run.step}/{run.num_steps or '?'}", f"{run.epoch}/{run.num_epochs or '?'}"),
            f"{run.mean_loss:.4g}",
            ", ".join(f"{name} {value:.4g}" for name, value in sorted(run.validation.items())),
            str(timedelta(seconds=round(run.elapsed_seconds))),
            time_text(run.create_time),
        )
    return table


def full_name(name: str) -> str:
    """Returns the name of a run, of which the last part may be given."""
    return name if name.startswith(PREFIX) else PREFIX + name
