from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gradwire_server.server import Server
from tests.fakes.server import Client, running


@pytest.fixture
async def server_and_client(tmp_path: Path) -> AsyncIterator[tuple[Server, Client]]:
    async with running(tmp_path) as both:
        yield both


@pytest.fixture
def server(server_and_client: tuple[Server, Client]) -> Server:
    return server_and_client[0]


@pytest.fixture
def client(server_and_client: tuple[Server, Client]) -> Client:
    return server_and_client[1]
