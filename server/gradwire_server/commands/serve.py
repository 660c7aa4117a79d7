"""``gradwire serve``."""

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from gradwire_server.config import ENV_PREFIX, Settings, SettingsError, load_settings
from gradwire_server.log import configure_logging
from gradwire_server.server import serve as run_server

_LIMITS = "Limits"
_RUNNING = "Running"
_ACCESS = "Access"

EPILOG = (
    f"Every option but --config can also be set by {ENV_PREFIX}NAME in the environment or "
    "name: value in the YAML file; the command line goes before the environment, and that before "
    "the file."
)


def _setting(name: str, panel: str, **more: Any) -> Any:
    """Returns the option for a setting, described as the setting is."""
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = False if default is None or default is False else str(default)
    return typer.Option(help=field.description, show_default=shown, rich_help_panel=panel, **more)


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help=f"YAML file with settings. Also by {ENV_PREFIX}CONFIG.", rich_help_panel=_RUNNING
        ),
    ] = None,
    address: Annotated[str | None, _setting("address", _RUNNING)] = None,
    device: Annotated[str | None, _setting("device", _RUNNING)] = None,
    workers: Annotated[int | None, _setting("workers", _RUNNING)] = None,
    threads: Annotated[int | None, _setting("threads", _RUNNING)] = None,
    storage: Annotated[str | None, _setting("storage", _RUNNING)] = None,
    storage_cache_bytes: Annotated[int | None, _setting("storage_cache_bytes", _RUNNING)] = None,
    log_format: Annotated[str | None, _setting("log_format", _RUNNING)] = None,
    log_level: Annotated[str | None, _setting("log_level", _RUNNING)] = None,
    drain_timeout_seconds: Annotated[
        float | None, _setting("drain_timeout_seconds", _RUNNING)
    ] = None,
    token: Annotated[str | None, _setting("token", _ACCESS)] = None,
    tokens_file: Annotated[Path | None, _setting("tokens_file", _ACCESS)] = None,
    tls_certificate_file: Annotated[Path | None, _setting("tls_certificate_file", _ACCESS)] = None,
    tls_key_file: Annotated[Path | None, _setting("tls_key_file", _ACCESS)] = None,
    tls_client_ca_file: Annotated[Path | None, _setting("tls_client_ca_file", _ACCESS)] = None,
    plaintext: Annotated[bool | None, _setting("plaintext", _ACCESS)] = None,
    insecure: Annotated[bool | None, _setting("insecure", _ACCESS)] = None,
    allowed_data_prefixes: Annotated[str | None, _setting("allowed_data_prefixes", _ACCESS)] = None,
    max_message_bytes: Annotated[int | None, _setting("max_message_bytes", _LIMITS)] = None,
    max_sessions: Annotated[int | None, _setting("max_sessions", _LIMITS)] = None,
    max_session_bytes: Annotated[int | None, _setting("max_session_bytes", _LIMITS)] = None,
    max_program_operations: Annotated[
        int | None, _setting("max_program_operations", _LIMITS)
    ] = None,
    max_queued_messages: Annotated[int | None, _setting("max_queued_messages", _LIMITS)] = None,
    max_dataset_bytes: Annotated[int | None, _setting("max_dataset_bytes", _LIMITS)] = None,
    max_dataset_columns: Annotated[int | None, _setting("max_dataset_columns", _LIMITS)] = None,
    max_total_dataset_bytes: Annotated[
        int | None, _setting("max_total_dataset_bytes", _LIMITS)
    ] = None,
    session_idle_timeout_seconds: Annotated[
        float | None, _setting("session_idle_timeout_seconds", _LIMITS)
    ] = None,
    parent_pid: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Runs a server: the gRPC endpoint and a worker process for each device."""
    if importlib.util.find_spec("torch") is None:
        raise SettingsError("torch is not installed; pip install 'gradwire[server]'")
    settings = load_settings(
        config,
        address=address,
        device=device,
        workers=workers,
        threads=threads,
        storage=storage,
        storage_cache_bytes=storage_cache_bytes,
        log_format=log_format,
        log_level=log_level,
        drain_timeout_seconds=drain_timeout_seconds,
        token=token,
        tokens_file=tokens_file,
        tls_certificate_file=tls_certificate_file,
        tls_key_file=tls_key_file,
        tls_client_ca_file=tls_client_ca_file,
        plaintext=plaintext,
        insecure=insecure,
        max_message_bytes=max_message_bytes,
        max_sessions=max_sessions,
        max_session_bytes=max_session_bytes,
        max_program_operations=max_program_operations,
        max_queued_messages=max_queued_messages,
        max_dataset_bytes=max_dataset_bytes,
        max_dataset_columns=max_dataset_columns,
        max_total_dataset_bytes=max_total_dataset_bytes,
        allowed_data_prefixes=allowed_data_prefixes,
        session_idle_timeout_seconds=session_idle_timeout_seconds,
    )
    configure_logging(settings.log_format, settings.log_level)
    uvloop.run(run_server(settings, parent_pid=parent_pid))
