"""``gradwire checkpoints``: what is kept of runs and sessions."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from gradwire.v1 import checkpoints_pb2
from gradwire_server.commands.connection import Connection, ServerStubs, connecting
from gradwire_server.commands.output import print_table, time_text
from gradwire_server.commands.runs import full_name as run_name

app = typer.Typer(name="checkpoints", help="Checkpoints of a server.", no_args_is_help=True)

PREFIX = "checkpoints/"
LEAST = ("expires", "run", "created", "name")
"""What of a checkpoint matters least: its name begins with that of its run."""

Name = Annotated[str, typer.Argument(help="The checkpoint's name.", show_default=False)]


@app.command("list")
@connecting
def list_checkpoints(
    connection: Connection,
    run: Annotated[str, typer.Option(help="Only those of this run.")] = "",
) -> None:
    """Lists the checkpoints, newest first."""
    with connection.open() as stubs:
        checkpoints = list(all_checkpoints(stubs, run))
    print_table(checkpoint_table(checkpoints), LEAST)


@app.command()
@connecting
def show(connection: Connection, name: Name) -> None:
    """Shows what is known of a checkpoint."""
    with connection.open() as stubs:
        request = checkpoints_pb2.GetCheckpointRequest(name=full_name(name))
        checkpoint = stubs.call(stubs.checkpoints.GetCheckpoint, request).checkpoint
    print_table(checkpoint_table([checkpoint]), LEAST)
    facts = Table("fact", "value")
    facts.add_row("gradwire", checkpoint.gradwire_version)
    facts.add_row("torch", checkpoint.torch_version)
    facts.add_row("models", ", ".join(checkpoint.models))
    for key, value in sorted(checkpoint.values.items()):
        facts.add_row(key, f"{value:.6g}")
    for handle, why in sorted(checkpoint.left_out.items()):
        facts.add_row(f"left out: handle {handle}", why)
    print_table(facts)


@app.command()
@connecting
def delete(connection: Connection, name: Name) -> None:
    """Deletes a checkpoint."""
    with connection.open() as stubs:
        request = checkpoints_pb2.DeleteCheckpointRequest(name=full_name(name))
        stubs.call(stubs.checkpoints.DeleteCheckpoint, request, timeout_seconds=None)
    typer.echo(f"{full_name(name)} deleted")


def all_checkpoints(stubs: ServerStubs, run: str) -> Iterator[checkpoints_pb2.Checkpoint]:
    """Yields the checkpoints of a server, newest first."""
    request = checkpoints_pb2.ListCheckpointsRequest(page_size=1000)
    if run:
        request.run = run_name(run)
    while True:
        response = stubs.call(stubs.checkpoints.ListCheckpoints, request)
        yield from response.checkpoints
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def checkpoint_table(checkpoints: list[checkpoints_pb2.Checkpoint]) -> Table:
    """Returns a table of checkpoints."""
    table = Table("checkpoint", "name", "run", "step", "size", "created", "expires")
    for checkpoint in checkpoints:
        table.add_row(
            *(checkpoint.name.removeprefix(PREFIX), checkpoint.display_name),
            checkpoint.run.removeprefix("runs/"),
            str(checkpoint.step) if checkpoint.run else "",
            decimal(checkpoint.num_bytes),
            time_text(checkpoint.create_time),
            time_text(checkpoint.expire_time) if checkpoint.HasField("expire_time") else "never",
        )
    return table


def full_name(name: str) -> str:
    """Returns the name of a checkpoint, of which the last part may be given."""
    return name if name.startswith(PREFIX) else PREFIX + name
