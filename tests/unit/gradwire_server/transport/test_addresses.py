import socket
from pathlib import Path

import pytest

from gradwire_server.transport.addresses import Address, remove_stale_socket


@pytest.mark.parametrize(
    ("text", "expected", "is_local"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", True),
        ("localhost:0", "localhost:0", True),
        ("[::1]:1", "[::1]:1", True),
        ("0.0.0.0:1", "0.0.0.0:1", False),
        ("[::]:1", "[::]:1", False),
        ("example.org:1", "example.org:1", False),
        ("unix:/tmp/a", "unix:/tmp/a", True),
        ("unix:///tmp/a", "unix:/tmp/a", True),
    ],
)
def test_addresses_are_parsed(text: str, expected: str, *, is_local: bool) -> None:
    address = Address.parse(text)
    assert str(address) == expected
    assert address.is_local is is_local


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:65536", "unix:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Address.parse(text)


def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    remove_stale_socket(path)
    assert not path.exists()
    remove_stale_socket(path)


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(FileExistsError, match="another server"):
            remove_stale_socket(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(FileExistsError, match="no socket"):
        remove_stale_socket(path)
    assert path.read_text() == "data"
