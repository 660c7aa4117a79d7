"""``gradwire version``."""

import typer

from gradwire_server.transport.front import installed_version


def version() -> None:
    """Shows the installed version."""
    typer.echo(f"gradwire {installed_version('gradwire') or 'unknown'}")
