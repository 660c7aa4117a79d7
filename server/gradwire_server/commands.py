"""The subcommands of ``gradwire``."""

import importlib.util
from pathlib import Path
from typing import Annotated, Any, cast

import grpc
import typer
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

from gradwire.v1 import server_pb2, server_pb2_grpc
from gradwire_server.config import ENV_PREFIX, Settings, SettingsError, load_settings
from gradwire_server.log import configure_logging
from gradwire_server.server import serve as run_server
from gradwire_server.transport.front import installed_version
from gradwire_server.transport.options import CLIENT_OPTIONS

CALL_TIMEOUT_SECONDS = 5.0

_LIMITS = "Limits"
_RUNNING = "Running"
_ACCESS = "Access"

app = typer.Typer(
    name="gradwire",
    help="PyTorch training as a gRPC service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _setting(name: str, panel: str, **more: Any) -> Any:
    """Returns the option for a setting, described as the setting is."""
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = False if default is None or default is False else str(default)
    return typer.Option(help=field.description, show_default=shown, rich_help_panel=panel, **more)


Address = Annotated[
    str,
    typer.Option(
        envvar=f"{ENV_PREFIX}ADDRESS", help="HOST:PORT or unix:PATH of the server.", metavar="TEXT"
    ),
]
Token = Annotated[str, typer.Option(envvar=f"{ENV_PREFIX}TOKEN", help="The server's token.")]
DEFAULT_ADDRESS = str(Settings.model_fields["address"].default)


@app.command(
    epilog=f"Every option but --config can also be set by {ENV_PREFIX}NAME in the environment or "
    "name: value in the YAML file; the command line goes before the environment, and that before "
    "the file."
)
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
    insecure: Annotated[bool | None, _setting("insecure", _ACCESS)] = None,
    max_message_bytes: Annotated[int | None, _setting("max_message_bytes", _LIMITS)] = None,
    max_sessions: Annotated[int | None, _setting("max_sessions", _LIMITS)] = None,
    max_session_bytes: Annotated[int | None, _setting("max_session_bytes", _LIMITS)] = None,
    max_program_operations: Annotated[
        int | None, _setting("max_program_operations", _LIMITS)
    ] = None,
    max_queued_messages: Annotated[int | None, _setting("max_queued_messages", _LIMITS)] = None,
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
        insecure=insecure,
        max_message_bytes=max_message_bytes,
        max_sessions=max_sessions,
        max_session_bytes=max_session_bytes,
        max_program_operations=max_program_operations,
        max_queued_messages=max_queued_messages,
        session_idle_timeout_seconds=session_idle_timeout_seconds,
    )
    configure_logging(settings.log_format, settings.log_level)
    uvloop.run(run_server(settings, parent_pid=parent_pid))


@app.command()
def health(address: Address = DEFAULT_ADDRESS) -> None:
    """Tells whether a server takes calls; the exit status is 0 if so, else 1."""
    with grpc.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            typer.echo(f"{address}: {_describe(error)}")
            raise typer.Exit(1) from None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    typer.echo(f"{address}: {status}")
    raise typer.Exit(0 if status == "SERVING" else 1)


@app.command()
def info(address: Address = DEFAULT_ADDRESS, token: Token = "") -> None:
    """Shows versions, workers and limits of a server."""
    with grpc.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        stub = server_pb2_grpc.ServerServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            response = stub.GetServerInfo(
                server_pb2.GetServerInfoRequest(), timeout=CALL_TIMEOUT_SECONDS, metadata=metadata
            )
        except grpc.RpcError as error:
            typer.echo(f"gradwire: {address}: {_describe(error)}", err=True)
            raise typer.Exit(1) from None
    _show(response)


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


def _describe(error: grpc.RpcError) -> str:
    call = cast("grpc.Call", error)
    return f"{call.code().name}: {call.details()}"


def _show(response: server_pb2.GetServerInfoResponse) -> None:
    console = Console()
    console.print(
        f"gradwire {response.server_version}, torch {response.torch_version}, "
        f"Python {response.python_version}",
        highlight=False,
    )
    workers = Table("worker", "device", "name", "state", "sessions", "restarts", "threads", "pid")
    for worker in response.workers:
        state = server_pb2.WorkerState.Name(worker.state).removeprefix("WORKER_STATE_").lower()
        workers.add_row(
            *(worker.id, worker.device, worker.device_name, state, str(worker.num_sessions)),
            *(str(worker.num_restarts), str(worker.num_threads), str(worker.pid)),
        )
    console.print(workers)
    limits = Table("limit", "value")
    for field, value in response.limits.ListFields():
        limits.add_row(field.name, f"{value:,}")
    console.print(limits)
