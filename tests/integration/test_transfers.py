"""Large tensors: through shared memory, in parts, compressed; the same bytes in every way."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradwire
from gradwire.current import push_session
from gradwire.errors import GradwireError
from gradwire.recorder.transfers import LARGE_BYTES, SHARED_PART_BYTES
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire.v1.regions import socket_address
from tests.processes import ServerProcess, Stubs, free_port
from tests.proxy import Proxy

MAX_MESSAGE_BYTES = 16 * 1024
WAYS: dict[str, dict[str, Any]] = {
    "shared": {},
    "sent": {"shared_memory": False},
    "compressed": {"shared_memory": False, "compression": "zstd"},
}
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text("ascii")
DTYPES = [np.float32, np.float64, np.int64, np.uint8, np.bool_, np.complex64, ml_dtypes.bfloat16]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes short messages only."""
    folder = tmp_path_factory.mktemp("narrow")
    with ServerProcess(folder, max_message_bytes=MAX_MESSAGE_BYTES) as server:
        yield server


@pytest.fixture(scope="module")
def sessions(narrow: ServerProcess) -> Iterator[dict[str, Session]]:
    """A session for each way."""
    with ExitStack() as stack:
        yield {
            way: stack.enter_context(gradwire.connect(narrow.address, **options))
            for way, options in WAYS.items()
        }


def shares(session: Session) -> bool:
    """Whether a session shares memory with its server by now."""
    return session._outbox.ring is not None


def large(way: str) -> int:
    """Returns how many bytes a tensor has that goes in several parts."""
    return 3 * SHARED_PART_BYTES if way == "shared" else 20 * MAX_MESSAGE_BYTES


def round_trip(array: "np.ndarray[Any, Any]") -> None:
    """Holds that an array comes back from the server, bit for bit."""
    tensor = gradwire.tensor(array)
    back = tensor.detach().numpy()
    assert (back.dtype.name, back.shape) == (array.dtype.name, array.shape)
    assert back.tobytes() == np.ascontiguousarray(array).astype(back.dtype).tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize("way", WAYS)
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_array_comes_back_the_same(
    sessions: dict[str, Session], way: str, data: st.DataObject
) -> None:
    push_session(sessions[way])
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    about = data.draw(st.sampled_from([0, 1, MAX_MESSAGE_BYTES, LARGE_BYTES, 5 * LARGE_BYTES]))
    columns = data.draw(st.integers(1, 7))
    rows = max(0, about // (dtype.itemsize * columns) + data.draw(st.integers(-2, 2)))
    raw = np.random.default_rng(rows).integers(0, 2, (rows, columns * dtype.itemsize), np.uint8)
    array = raw.view(dtype)
    change = data.draw(st.sampled_from(["as it is", "transposed", "every other", "big-endian"]))
    if change == "transposed":
        array = array.T
    elif change == "every other":
        array = array[::2]
    elif change == "big-endian" and dtype.kind in "fi":
        array = array.astype(dtype.newbyteorder(">"))
    round_trip(array)


@pytest.mark.parametrize("way", WAYS)
def test_no_message_limits_a_tensor(sessions: dict[str, Session], way: str) -> None:
    push_session(sessions[way])
    round_trip(np.arange(large(way) // 8 + 5, dtype=np.float64))
    assert shares(sessions[way]) == (way == "shared")


@pytest.mark.parametrize("way", WAYS)
def test_an_array_may_change_as_soon_as_it_was_sent(sessions: dict[str, Session], way: str) -> None:
    push_session(sessions[way])
    array = np.zeros(large(way) // 4, np.float32)
    tensors = []
    for number in range(20):
        array[:] = number
        tensors.append(gradwire.tensor(array))
    assert [int(tensor.max()) for tensor in tensors] == list(range(20))
    assert [int(tensor.min()) for tensor in tensors] == list(range(20))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_large_may_require_a_gradient_and_be_an_argument(
    sessions: dict[str, Session], way: str
) -> None:
    push_session(sessions[way])
    array = np.arange(large(way) // 4 + 1, dtype=np.float32)
    weight = gradwire.tensor(array, requires_grad=True)
    (weight * array).sum().backward()
    assert weight.grad is not None
    assert (weight.grad.numpy() == array).all()


@pytest.mark.parametrize("way", WAYS)
def test_several_large_results_come_at_once(sessions: dict[str, Session], way: str) -> None:
    push_session(sessions[way])
    sizes = (3, LARGE_BYTES, large(way) // 16, large(way) // 4, 10)
    tensors = [gradwire.full((size,), number) for number, size in enumerate(sizes)]
    arrays = sessions[way].fetch_all([("torch.Tensor.detach", (t,), {}) for t in tensors])
    for number, (size, array) in enumerate(zip(sizes, arrays, strict=True)):
        assert array.shape == (size,)
        assert (array == number).all()


@pytest.mark.parametrize("way", WAYS)
def test_an_error_before_a_large_tensor_is_told_and_the_session_goes_on(
    sessions: dict[str, Session], way: str
) -> None:
    push_session(sessions[way])
    array = np.ones(large(way) // 4, np.float32)

    def fail() -> None:
        wrong = gradwire.ones(2) @ gradwire.ones(3)
        del wrong
        sessions[way].cut()
        gradwire.tensor(array).sum().item()

    with pytest.raises(GradwireError, match="size"):
        fail()
    round_trip(array)


def test_a_server_on_a_port_shares_memory_too(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, address=f"127.0.0.1:{free_port()}") as server,
        gradwire.connect(server.address) as session,
    ):
        round_trip(np.ones(LARGE_BYTES))
        assert shares(session)


def test_a_server_in_another_network_shares_memory_by_a_common_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_abstract(name: str, server_path: str | None) -> str | None:
        return None if name.startswith("@") else socket_address(name, server_path)

    # As in another container that has /dev/shm in common with the server's.
    monkeypatch.setattr("gradwire.transport.sharing.socket_address", not_abstract)
    with (
        ServerProcess(tmp_path, address=f"127.0.0.1:{free_port()}") as server,
        gradwire.connect(server.address) as session,
    ):
        round_trip(np.random.default_rng(2).random(3 * SHARED_PART_BYTES // 8))
        assert shares(session)


@pytest.mark.skipif("[never]" in HUGE_PAGES, reason="this system has no huge pages to give")
def test_a_large_tensor_takes_huge_pages_on_the_worker(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, gradwire.connect(server.address) as session:
        gradwire.ones(1).item()
        before = huge_bytes(server)
        tensor = gradwire.tensor(np.ones(4 * SHARED_PART_BYTES, np.uint8))
        assert tensor.sum().item() == 4 * SHARED_PART_BYTES
        # At both ends there may be less than a page.
        assert huge_bytes(server) - before > 3 * SHARED_PART_BYTES
        assert shares(session)


def huge_bytes(server: ServerProcess) -> int:
    """Returns how much memory of the server's worker is in huge pages."""
    with open_channel(server.address) as channel:
        pid = Stubs(channel).workers()[0].pid
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHuge"))


def test_the_server_may_share_no_memory(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, no_shared_memory=True) as server,
        gradwire.connect(server.address) as session,
    ):
        round_trip(np.ones(2 * SHARED_PART_BYTES))
        assert not shares(session)


def test_a_server_that_can_not_be_found_here_is_sent_messages(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in another container: the name that the server tells is of no use.
    monkeypatch.setattr(
        "gradwire.transport.sharing.socket_address", lambda *_: "\0gradwire-of-another-host"
    )
    with gradwire.connect(address) as session:
        round_trip(np.ones(2 * SHARED_PART_BYTES))
        assert not shares(session)


def test_sessions_beyond_the_quota_are_sent_messages(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, max_shared_bytes=48 * 1024 * 1024) as server,
        gradwire.connect(server.address) as first,
    ):
        round_trip(np.ones(LARGE_BYTES))
        with gradwire.connect(server.address) as second:
            round_trip(np.ones(LARGE_BYTES))
            assert shares(first)
            assert not shares(second)
        first.close()
        with gradwire.connect(server.address) as third:
            round_trip(np.ones(LARGE_BYTES))
            assert shares(third)


def test_an_unknown_compression_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="'lz4' is none of zstd"):
        gradwire.connect(address, compression="lz4")


def test_a_tensor_in_parts_survives_a_connection_that_breaks(
    tmp_path: Path, narrow: ServerProcess
) -> None:
    array = np.random.default_rng(1).random(30 * MAX_MESSAGE_BYTES)
    with (
        Proxy(tmp_path / "proxy.sock", narrow.address) as proxy,
        gradwire.connect(proxy.address) as session,
    ):
        gradwire.ones(1).item()
        proxy.cut_at_bytes = proxy.num_client_bytes + array.nbytes // 2
        round_trip(array)
        assert proxy.num_connections > 1
        # Through the proxy the server's socket for memory is not to be found.
        assert not shares(session)
