"""What tests of more than one floor share: a real server, and a session on it."""

from collections.abc import Iterator

import pytest

import gradwire
from gradwire.session import Session
from tests.processes import ServerProcess


@pytest.fixture(scope="session")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for all tests that leave it as it was."""
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def address(server_process: ServerProcess) -> str:
    """The address of the server that all tests share."""
    return server_process.address


@pytest.fixture
def session(address: str) -> Iterator[Session]:
    """A session on the shared server; operations of the test go to it."""
    with gradwire.connect(address) as session:
        yield session
