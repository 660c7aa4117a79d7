"""Imports point down only; see ARCHITECTURE.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "client" / "gradwire"
EXPORTED = CLIENT / "exported"
"""The one place in the client that knows torch: modules of a local torch come from there."""
SERVER = ROOT / "server" / "gradwire_server"
WATCHING_COMMANDS = SERVER / "commands" / "runs.py"
"""A client like others: it shows a run by the SDK's own progress bar."""
WORKER_PROCESS = SERVER / "workers" / "process.py"


def imports(path: Path) -> Iterator[str]:
    """Yields the dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(folder: Path, *forbidden: str, skip: tuple[Path, ...] = ()) -> list[str]:
    """Returns `file imports name` for what `folder` must not import."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(folder.rglob("*.py") if folder.is_dir() else [folder])
        if path not in skip
        for name in imports(path)
        if any(name == package or name.startswith(f"{package}.") for package in forbidden)
    ]


def test_the_client_imports_nothing_of_the_server_and_no_torch() -> None:
    assert not offences(CLIENT, "gradwire_server")
    assert not offences(CLIENT, "torch", skip=tuple(EXPORTED.rglob("*.py")))


def test_nothing_of_the_client_imports_the_part_that_knows_torch() -> None:
    assert not offences(CLIENT, "gradwire.exported", skip=tuple(EXPORTED.rglob("*.py")))
    assert not offences(EXPORTED / "__init__.py", "torch", "gradwire.exported")


def test_the_server_imports_of_the_client_only_the_contract() -> None:
    found = [
        offence
        for offence in offences(SERVER, "gradwire", skip=(WATCHING_COMMANDS,))
        if not offence.split(" imports ")[1].startswith("gradwire.v1.")
    ]
    assert not found


def test_nothing_but_the_command_that_runs_them_knows_the_benchmarks() -> None:
    assert not offences(CLIENT, "gradwire_benchmarks")
    assert not offences(SERVER, "gradwire_benchmarks", skip=(SERVER / "commands" / "bench.py",))


@pytest.mark.parametrize(
    ("floor", "forbidden"),
    [
        (
            "storage",
            (
                "torch",
                "grpc",
                "gradwire_server.engine",
                "gradwire_server.sessions",
                "gradwire_server.transport",
                "gradwire_server.workers",
            ),
        ),
        (
            "datasets",
            (
                "torch",
                "grpc",
                "gradwire_server.engine",
                "gradwire_server.sessions",
                "gradwire_server.transport",
                "gradwire_server.workers",
            ),
        ),
        (
            "page",
            (
                "torch",
                "gradwire_server.engine",
                "gradwire_server.sessions",
                "gradwire_server.storage",
                "gradwire_server.workers",
            ),
        ),
        ("transport", ("torch", "gradwire_server.engine", "gradwire_server.page")),
        ("runs", ("torch", "grpc", "gradwire_server.engine", "gradwire_server.transport")),
        (
            "sessions",
            (
                "torch",
                "grpc",
                "gradwire_server.engine",
                "gradwire_server.runs",
                "gradwire_server.transport",
            ),
        ),
        (
            "workers",
            (
                "torch",
                "grpc",
                "gradwire_server.engine",
                "gradwire_server.sessions",
                "gradwire_server.transport",
            ),
        ),
        (
            "engine",
            (
                "grpc",
                "gradwire_server.sessions",
                "gradwire_server.transport",
                "gradwire_server.workers",
            ),
        ),
    ],
)
def test_a_floor_of_the_server_imports_nothing_from_above(
    floor: str, forbidden: tuple[str, ...]
) -> None:
    folder = SERVER / floor
    assert folder.is_dir()
    # The worker process is where the engine runs: the one file of its floor that knows torch.
    assert not offences(folder, *forbidden, skip=(WORKER_PROCESS,))


def test_the_worker_process_imports_no_grpc() -> None:
    assert not offences(
        SERVER / "workers", "grpc", "gradwire_server.sessions", "gradwire_server.transport"
    )
