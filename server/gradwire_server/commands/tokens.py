"""``gradwire tokens``."""

from pathlib import Path
from typing import Annotated

import typer

from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import (
    TokenEntry,
    TokensFileError,
    append_token,
    new_token,
    parse_expiry,
    parse_tenant,
)
from gradwire_server.config import SettingsError

DEFAULT_PERIOD = "90d"

app = typer.Typer(help="Makes tokens for callers.", no_args_is_help=True)


@app.callback()
def _tokens() -> None:
    """Makes tokens for callers."""


@app.command()
def new(
    tenant: Annotated[str, typer.Option(help="Whose what is made with it will be.")],
    role: Annotated[Role, typer.Option(help="What it allows.")] = Role.USER,
    expires: Annotated[
        str, typer.Option(help="Until when: a period such as 90d or 12h, a time, or never.")
    ] = DEFAULT_PERIOD,
    file: Annotated[
        Path | None, typer.Option(help="The tokens file to append its line to.")
    ] = None,
) -> None:
    """Makes a token and shows it, this once; the tokens file gets only its hash."""
    try:
        parse_tenant(tenant)
    except ValueError as error:
        raise SettingsError(f"tenant: {error}") from None
    try:
        until = parse_expiry(expires)
    except ValueError as error:
        raise SettingsError(f"expires: {error}") from None
    token = new_token()
    entry = TokenEntry.of(token, tenant, role, until)
    if file is None:
        typer.echo("The line for the tokens file of the server:", err=True)
        typer.echo(entry.line(), err=True)
    else:
        try:
            append_token(file, entry)
        except TokensFileError as error:
            raise SettingsError(str(error)) from None
        except OSError as error:
            raise SettingsError(f"tokens file {file}: {error}") from None
        typer.echo(f"Its line was appended to {file}.", err=True)
    typer.echo("The token, which is shown only now:", err=True)
    typer.echo(token)
