"""The subcommands of ``gradwire``; those that are not asked for are not loaded."""

import importlib
import sys
from collections.abc import Collection

import typer

from gradwire_server.config import SettingsError

__all__ = ["COMMANDS", "make_app", "run"]

COMMANDS = {
    "serve": "serve",
    "health": "inspection",
    "info": "inspection",
    "sessions": "inspection",
    "workers": "inspection",
    "top": "top",
    "bench": "bench",
    "version": "version",
    "runs": "runs",
    "checkpoints": "checkpoints",
    "datasets": "datasets",
    "tokens": "tokens",
}
"""The module of each command. It has a function of that name, or an application with commands."""


def make_app(names: Collection[str] = tuple(COMMANDS)) -> typer.Typer:
    """Returns the application that carries commands out.

    Args:
        names: The commands that it has.
    """
    app = typer.Typer(
        name="gradwire",
        help="PyTorch training as a gRPC service.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    # So that a single command is still called by its name.
    app.callback()(lambda: None)
    for name in names:
        module = importlib.import_module(f"gradwire_server.commands.{COMMANDS[name]}")
        if hasattr(module, name):
            app.command(name, epilog=getattr(module, "EPILOG", None))(getattr(module, name))
        else:
            app.add_typer(module.app, name=name)
    return app


def run() -> int:
    """Runs the command; returns its exit status."""
    asked = [name for name in sys.argv[1:2] if name in COMMANDS]
    try:
        make_app(asked or tuple(COMMANDS))()
    except SettingsError as error:
        typer.echo(f"gradwire: {error}", err=True)
        return 2
    except SystemExit as end:
        # How typer returns; after a mistake in the options it has told what is wrong.
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
