import socket
from pathlib import Path

import pytest

from gradwire_server.transport.addresses import Address, remove_stale_socket, require_free


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


def test_a_port_that_is_taken_is_told_in_plain_words_and_a_free_one_stays_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):
            with pytest.raises(OSError, match="Address already in use"):
                require_free(Address.parse(f"{host}:{port}"))
    for _ in range(2):
        require_free(Address.parse(f"127.0.0.1:{port}"))
    with pytest.raises(OSError, match="Cannot assign requested address"):
        require_free(Address.parse("192.0.2.1:1"))
