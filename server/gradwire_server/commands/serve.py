"""``gradwire serve``."""

import importlib.util
import inspect
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import uvloop
from pydantic import SecretStr

from gradwire_server.allocator import keep_freed_memory
from gradwire_server.config import ENV_PREFIX, Settings, SettingsError, load_settings
from gradwire_server.log import configure_logging
from gradwire_server.server import serve as run_server

EPILOG = (
    f"Every option but --config can also be set by {ENV_PREFIX}NAME in the environment or "
    "name: value in the YAML file; the command line goes before the environment, and that before "
    "the file."
)

_RUNNING = "Running"
_PANELS = {
    "Access": ("token", "tls_", "plaintext", "insecure", "allowed_"),
    "Observability": ("health_", "page_", "log_", "audit_", "metrics_", "otlp_", "channelz"),
    "Limits": ("max_", "session_idle_", "tenants"),
}
"""Under which heading settings are shown, by how their names begin."""

_TYPES: tuple[type, ...] = (bool, int, float, Path)
"""What an option may be parsed to; the settings themselves parse everything else."""


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help=f"YAML file with settings. Also by {ENV_PREFIX}CONFIG.", rich_help_panel=_RUNNING
        ),
    ] = None,
    parent_pid: Annotated[int | None, typer.Option(hidden=True)] = None,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    **given: Any,
) -> None:
    """Runs a server: the gRPC endpoint and a worker process for each device."""
    if importlib.util.find_spec("torch") is None:
        raise SettingsError("torch is not installed; pip install 'gradwire[server]'")
    settings = load_settings(config, **given)
    configure_logging(settings.log_format, settings.log_level)
    keep_freed_memory()
    uvloop.run(run_server(settings, parent_pid=parent_pid, ready_fd=ready_fd))


def _option(name: str) -> inspect.Parameter:
    """Returns the option for a setting, described as the setting is."""
    field = Settings.model_fields[name]
    kinds = get_args(field.annotation) or (field.annotation,)
    kind = next((each for each in _TYPES if each in kinds), str)
    default = field.get_default(call_default_factory=True, validated_data={})
    secret = SecretStr in kinds
    option = typer.Option(
        help=field.description,
        show_default=False if secret or not default else str(default),
        rich_help_panel=next(
            (panel for panel, starts in _PANELS.items() if name.startswith(starts)), _RUNNING
        ),
    )
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _add_options() -> None:
    """Gives the command an option for each setting."""
    own = list(inspect.signature(serve).parameters.values())[:-1]
    options = [_option(name) for name in Settings.model_fields]
    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (own[0], *options, *own[1:])
    ]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {each.name: each.annotation for each in parameters}


_add_options()
