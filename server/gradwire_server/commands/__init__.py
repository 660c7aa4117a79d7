"""The subcommands of ``gradwire``."""

import typer

from gradwire_server.commands import (
    bench,
    checkpoints,
    datasets,
    inspection,
    runs,
    serve,
    tokens,
    top,
)
from gradwire_server.config import SettingsError
from gradwire_server.transport.front import installed_version

__all__ = ["app", "run"]

app = typer.Typer(
    name="gradwire",
    help="PyTorch training as a gRPC service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(epilog=serve.EPILOG)(serve.serve)
for command in (
    *(inspection.health, inspection.info, inspection.sessions, inspection.workers),
    *(top.top, bench.bench),
):
    app.command()(command)
app.add_typer(runs.app, name="runs")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(datasets.app, name="datasets")
app.add_typer(tokens.app, name="tokens")


@app.command()
def version() -> None:
    """Shows the installed version."""
    typer.echo(f"gradwire {installed_version('gradwire') or 'unknown'}")


def run() -> int:
    """Runs the command; returns its exit status."""
    try:
        app()
    except SettingsError as error:
        typer.echo(f"gradwire: {error}", err=True)
        return 2
    except SystemExit as end:
        # How typer returns; after a mistake in the options it has told what is wrong.
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
