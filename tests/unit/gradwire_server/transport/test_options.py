"""The names of gRPC's options, which gRPC ignores if they are wrong."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from gradwire.transport.channel import CHANNEL_OPTIONS
from gradwire_server.transport.options import CLIENT_OPTIONS, server_options

NAMES = {name for name, _ in (*CHANNEL_OPTIONS, *CLIENT_OPTIONS, *server_options(1))}


@pytest.fixture(scope="module")
def library() -> bytes:
    spec = find_spec("grpc._cython.cygrpc")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_bytes()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_grpc_knows_the_option(name: str, library: bytes) -> None:
    assert name.encode() + b"\0" in library
