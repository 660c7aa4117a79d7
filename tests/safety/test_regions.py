"""Memory that client and server share: who has it, what of it, and that nothing of it stays."""

import mmap
import multiprocessing
import os
import secrets
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradwire
from gradwire.errors import SessionLostError
from gradwire.transport.channel import open_channel
from gradwire.v1 import server_pb2, sessions_pb2, values_pb2
from gradwire.v1.apart import APART, LARGE_BYTES
from gradwire.v1.regions import SHARED_FOLDER, TICKET_BYTES, claim, socket_address
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from tests.processes import ServerProcess, Stubs, free_port
from tests.safety.caller import Caller, RefusedError, calling, handle, op, worker_pids

KIBIBYTE = 1024
REGION_BYTES = 256 * KIBIBYTE
INT64 = st.integers(-(2**63), 2**63 - 1)
DEADLINE_SECONDS = 30.0
NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]


class Shared(NamedTuple):
    """A region as a client has it."""

    number: int
    memory: mmap.mmap
    connection: socket.socket

    def slice(self, offset: int, size_bytes: int) -> values_pb2.RegionSlice:
        """Returns a part of it."""
        return values_pb2.RegionSlice(region=self.number, offset=offset, size_bytes=size_bytes)

    def close(self) -> None:
        """Goes away."""
        self.connection.close()
        self.memory.close()


def region_socket(stubs: Stubs, process: ServerProcess) -> str:
    """Returns the address of the server's region socket."""
    (name,) = stubs.server.GetServerInfo(server_pb2.GetServerInfoRequest()).region_sockets
    address = socket_address(name, process.address.removeprefix("unix:"))
    assert address is not None
    return address


def create(caller: Caller, size_bytes: int = REGION_BYTES) -> sessions_pb2.CreateRegionResponse:
    """Makes a region in a session."""
    request = sessions_pb2.CreateRegionRequest(name=caller.name, size_bytes=size_bytes)
    response: sessions_pb2.CreateRegionResponse = calling(
        caller.stubs.sessions.CreateRegion, request
    )
    return response


def share(caller: Caller, address: str, size_bytes: int = REGION_BYTES) -> Shared:
    """Makes a region in a session and fetches it."""
    created = create(caller, size_bytes)
    connection, memory = claim(address, created.ticket)
    assert len(memory) == size_bytes == created.size_bytes
    return Shared(created.region, memory, connection)


def put(region: values_pb2.RegionSlice, num_elements: int) -> sessions_pb2.Command:
    """Returns a command that stores bytes of a region as a tensor, under handle 2."""
    tensor = values_pb2.Tensor(
        dtype=values_pb2.DATA_TYPE_UINT8, shape=[num_elements], region=region
    )
    return sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=2, tensor=tensor))


def fetched(caller: Caller, handle: int) -> bytes:
    """Returns the elements of a tensor of a session."""
    request = sessions_pb2.FetchValuesRequest(name=caller.name, handles=[handle])
    (value,) = calling(caller.stubs.sessions.FetchValues, request).values
    data: bytes = value.tensor.data
    return data


class Sharing(NamedTuple):
    """A server, plain stubs, and its region socket."""

    process: ServerProcess
    stubs: Stubs
    socket: str


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sharing]:
    folder = tmp_path_factory.mktemp("sharing")
    server = ServerProcess(
        folder, max_session_shared_bytes=2 * REGION_BYTES, max_shared_bytes=5 * REGION_BYTES
    )
    with server as process, open_channel(process.address) as channel:
        stubs = Stubs(channel)
        yield Sharing(process, stubs, region_socket(stubs, process))


@pytest.fixture
def caller(sharing: Sharing) -> Iterator[Caller]:
    caller = Caller(sharing.stubs)
    yield caller
    caller.close()


@pytest.fixture
def region(sharing: Sharing, caller: Caller) -> Iterator[Shared]:
    """A region of `caller`."""
    region = share(caller, sharing.socket)
    yield region
    region.close()


def holders() -> set[int]:
    """Returns the processes that have memory of a region mapped or open, this one aside."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        # Processes end while they are looked at.
        with suppress(OSError):
            names = [str(link.readlink()) for link in (folder / "fd").iterdir()]
            if any("gradwire-region" in line for line in [*names, (folder / "maps").read_text()]):
                found.add(int(folder.name))
    return found


def shared_files() -> set[Path]:
    """Returns the files of gradwire in the shared folder, sockets of servers aside."""
    return {path for path in Path(SHARED_FOLDER).glob("*gradwire*") if not path.is_socket()}


def wait_until_nobody_holds(before: set[int]) -> None:
    """Waits until no process but those of before has memory of a region."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while holders() - before:
        assert time.monotonic() < deadline, f"{holders() - before} keep memory"
        time.sleep(0.02)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_slice_is_bytes_of_the_own_region_or_a_clear_error(
    sharing: Sharing, caller: Caller, region: Shared, data: st.DataObject
) -> None:
    (pid,) = worker_pids(sharing.stubs)
    region.memory[:] = (contents := np.arange(REGION_BYTES // 4, dtype=np.int32).tobytes())
    near = st.integers(-2, REGION_BYTES + 2)
    number = data.draw(st.one_of(st.just(region.number), st.just(region.number), INT64))
    offset = data.draw(st.one_of(near, INT64))
    size = data.draw(st.one_of(near, st.just(REGION_BYTES - offset), INT64))
    size = max(-(2**63), min(size, 2**63 - 1))
    num_elements = data.draw(st.one_of(st.just(max(size, 0)), near, INT64))
    command = put(
        values_pb2.RegionSlice(region=number, offset=offset, size_bytes=size), num_elements
    )
    fits = offset >= 0 and 0 <= size == num_elements and offset + size <= REGION_BYTES
    if fits and number == region.number:
        caller.send(command)
        assert fetched(caller, 2) == contents[offset : offset + size]
    else:
        with pytest.raises(RefusedError) as caught:
            caller.send(command)
        assert caught.value.reason in {"INVALID_REQUEST", "REGION_NOT_FOUND", "LIMIT_EXCEEDED"}
    assert worker_pids(sharing.stubs) == [pid]


def test_results_go_only_where_the_own_region_is(
    sharing: Sharing, caller: Caller, region: Shared
) -> None:
    elsewhere = (
        region.slice(-1, 10),
        region.slice(0, REGION_BYTES + 1),
        region.slice(2**62, 2**62),
        values_pb2.RegionSlice(region=region.number + 1, size_bytes=10),
    )
    for seq, offered in enumerate(elsewhere, start=1):
        request = sessions_pb2.ExecuteRequest(
            name=caller.name,
            seq=seq,
            failure_seen_seq=seq - 1,
            commands=[put(region.slice(0, 1), 1)],
            delivery=values_pb2.Delivery(region=offered),
        )
        (response,) = sharing.stubs.sessions.Execute(iter([request]), timeout=60)
        assert response.failure.code in {NOT_FOUND, INVALID}


def test_the_region_of_another_session_is_not_there(sharing: Sharing, region: Shared) -> None:
    region.memory[:6] = b"secret"
    other = Caller(sharing.stubs)
    errors = []
    for number in (region.number, 2**40):
        with pytest.raises(RefusedError) as caught:
            other.send(put(values_pb2.RegionSlice(region=number, size_bytes=6), 6))
        assert caught.value.code == NOT_FOUND
        errors.append(caught.value.message.replace(str(number), "N"))
    assert errors[0] == errors[1]
    other.close()


def test_a_region_is_made_in_sessions_of_the_own_tenant_only(tmp_path: Path) -> None:
    tokens = {tenant: new_token() for tenant in ("acme", "other")}
    for tenant, token in tokens.items():
        append_token(tmp_path / "tokens", TokenEntry.of(token, tenant, Role.USER, None))
    with (
        ServerProcess(tmp_path, tokens_file=tmp_path / "tokens") as process,
        open_channel(process.address) as channel,
    ):
        stubs = Stubs(channel)
        made = stubs.sessions.CreateSession(
            sessions_pb2.CreateSessionRequest(),
            metadata=(("authorization", f"Bearer {tokens['acme']}"),),
        )
        request = sessions_pb2.CreateRegionRequest(name=made.session.name, size_bytes=64)
        with pytest.raises(grpc.RpcError) as caught:
            stubs.sessions.CreateRegion(
                request, metadata=(("authorization", f"Bearer {tokens['other']}"),)
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("num_bytes", [0, 1, TICKET_BYTES - 1, TICKET_BYTES, TICKET_BYTES + 1])
def test_no_ticket_no_memory(sharing: Sharing, caller: Caller, num_bytes: int) -> None:
    create(caller)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(DEADLINE_SECONDS)
        stranger.connect(sharing.socket)
        stranger.sendall(secrets.token_bytes(num_bytes))
        if not num_bytes:
            stranger.shutdown(socket.SHUT_WR)
        assert socket.recv_fds(stranger, 1, 1)[:2] == (b"", [])


def test_a_ticket_is_good_for_one_connection(sharing: Sharing, caller: Caller) -> None:
    created = create(caller)
    connection, memory = claim(sharing.socket, created.ticket)
    with pytest.raises(OSError, match="ticket"):
        claim(sharing.socket, created.ticket)
    connection.close()
    memory.close()


def test_many_who_say_nothing_keep_nobody_from_their_memory(
    sharing: Sharing, caller: Caller
) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for each in silent:
        each.connect(sharing.socket)
    share(caller, sharing.socket).close()
    for each in silent:
        each.close()


def test_nobody_can_truncate_the_memory_under_the_worker(sharing: Sharing, caller: Caller) -> None:
    created = create(caller)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sharing.socket)
        connection.sendall(created.ticket)
        _, (descriptor,), _, _ = socket.recv_fds(connection, 1, 1)
        for size in (0, REGION_BYTES - 1, REGION_BYTES + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        os.close(descriptor)


def test_memory_is_bounded_for_each_session_and_in_all(sharing: Sharing) -> None:
    callers = [Caller(sharing.stubs) for _ in range(4)]
    regions = [share(callers[0], sharing.socket), share(callers[0], sharing.socket)]
    with pytest.raises(RefusedError) as caught:
        create(callers[0], 1)
    assert caught.value.metadata["limit"] == "max_session_shared_bytes"
    regions += [share(each, sharing.socket) for each in callers[1:]]
    with pytest.raises(RefusedError) as caught:
        create(callers[1], 1)
    assert caught.value.metadata["limit"] == "max_shared_bytes"
    for size in (0, -1, 2**63 - 1):
        with pytest.raises(RefusedError):
            create(callers[1], size)
    for each in callers:
        each.close()
    # Sessions that end give theirs back, also while somebody still has it mapped.
    last = Caller(sharing.stubs)
    regions += [share(last, sharing.socket), share(last, sharing.socket)]
    last.close()
    for region in regions:
        region.close()


def test_what_changes_while_it_is_read_harms_nobody(
    sharing: Sharing, caller: Caller, region: Shared
) -> None:
    (pid,) = worker_pids(sharing.stubs)
    indices = values_pb2.Tensor(
        dtype=values_pb2.DATA_TYPE_INT64,
        shape=[REGION_BYTES // 8],
        region=region.slice(0, REGION_BYTES),
    )
    caller.send(sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=2, tensor=indices)))
    region.memory[:] = b"\x7f" * REGION_BYTES
    # What was stored is a copy: the indices are still those that a check would have seen.
    assert fetched(caller, 2) == bytes(REGION_BYTES)
    assert worker_pids(sharing.stubs) == [pid]


def test_a_client_lets_go_of_its_memory_when_its_session_is_lost(tmp_path: Path) -> None:
    def num_mapped() -> int:
        return Path("/proc/self/maps").read_text(encoding="utf-8").count("gradwire-region")

    before = num_mapped()
    with (
        ServerProcess(tmp_path) as process,
        gradwire.connect(process.address) as session,
        open_channel(process.address) as channel,
    ):
        assert gradwire.tensor(np.ones(100_000)).sum().item() == 100_000
        assert num_mapped() > before
        (worker,) = worker_pids(Stubs(channel))
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(SessionLostError):
            gradwire.tensor(np.ones(100_000)).sum().item()
        assert session.is_lost
        assert num_mapped() == before


def _client(address: str, ready: Connection) -> None:
    """Shares memory with a server until it is killed."""
    gradwire.connect(address)
    tensor = gradwire.tensor(np.ones(100_000))
    tensor.numpy()
    ready.send(None)
    signal.pause()


@pytest.mark.parametrize("victim", ["client", "worker", "server"])
def test_nothing_stays_when_one_of_them_is_killed(tmp_path: Path, victim: str) -> None:
    before, files = holders(), shared_files()
    ours, theirs = multiprocessing.Pipe()
    with ServerProcess(tmp_path) as process, open_channel(process.address) as channel:
        stubs = Stubs(channel)
        Caller(stubs).close()  # waits for the worker
        (worker,) = worker_pids(stubs)
        client = multiprocessing.get_context("spawn").Process(
            target=_client, args=(process.address, theirs), daemon=True
        )
        client.start()
        assert client.pid is not None
        assert ours.poll(DEADLINE_SECONDS)
        own = {worker, process.process.pid, client.pid}
        assert holders() - before == own
        killed = {"client": client.pid, "worker": worker, "server": process.process.pid}[victim]
        os.kill(killed, signal.SIGKILL)
        if victim == "client":
            wait_until_nobody_holds(before)
            # What it had is there for others.
            assert stubs.server.GetServerInfo(server_pb2.GetServerInfoRequest()).region_sockets
        else:
            wait_until_nobody_holds(before | {client.pid})
            client.kill()
            wait_until_nobody_holds(before)
        client.kill()
        client.join()
    assert shared_files() == files


def in_shared_folder(process: ServerProcess) -> Path:
    """Returns the socket that a server on a port has in the shared folder."""
    with open_channel(process.address) as channel:
        info = Stubs(channel).server.GetServerInfo(server_pb2.GetServerInfoRequest())
    (path,) = [Path(name) for name in info.region_sockets if name.startswith(SHARED_FOLDER)]
    return path


def test_a_socket_in_the_shared_folder_is_its_users_and_goes_with_its_server(
    tmp_path: Path,
) -> None:
    def server(name: str) -> ServerProcess:
        (tmp_path / name).mkdir()
        return ServerProcess(tmp_path / name, address=f"127.0.0.1:{free_port()}")

    with server("killed") as killed:
        left = in_shared_folder(killed)
        assert stat.S_ISSOCK(left.stat().st_mode)
        assert stat.S_IMODE(left.stat().st_mode) == 0o600
        killed.process.kill()
        killed.process.wait()
        assert left.exists()
        with server("next") as following:
            assert not left.exists()
            paths = [in_shared_folder(following)]
            with server("another") as another:
                paths.append(in_shared_folder(another))
                assert all(path.exists() for path in paths)
    assert not any(path.exists() for path in paths)


def test_elements_that_a_message_brings_are_nobodys_region(caller: Caller, region: Shared) -> None:
    size = 2 * LARGE_BYTES
    own = values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_UINT8, shape=[size], data=b"x" * size)
    bring = sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=3, tensor=own))
    named = values_pb2.RegionSlice(region=APART)
    for offset, num_bytes in ((0, 16), (1, size), (-1, size)):
        named.offset, named.size_bytes = offset, num_bytes
        for commands in ([put(named, num_bytes)], [bring, put(named, num_bytes)]):
            with pytest.raises(RefusedError) as caught:
                caller.send(*commands)
            assert caught.value.reason == "REGION_NOT_FOUND"
    with pytest.raises(RefusedError) as caught:
        caller.send(bring, delivery=values_pb2.Delivery(region=named))
    assert caught.value.reason == "REGION_NOT_FOUND"
    # A region that a client shares is never called so.
    assert region.number != APART


def test_a_part_that_is_read_is_not_what_later_commands_made_of_it(caller: Caller) -> None:
    size = 2 * LARGE_BYTES
    own = values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_UINT8, shape=[size], data=b"x" * size)
    bring = sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=3, tensor=own))
    read = sessions_pb2.Command(
        read_tensor=sessions_pb2.ReadTensor(handle=3, offset=0, size_bytes=size)
    )
    zero = values_pb2.Program(operations=[op("torch.Tensor.zero_", handle(3))])
    commands = (
        bring,
        sessions_pb2.Command(put_program=sessions_pb2.PutProgram(handle=1, program=zero)),
        read,
        sessions_pb2.Command(run_program=sessions_pb2.RunProgram(program=1)),
        read,
    )
    before, after = caller.send(*commands, delivery=values_pb2.Delivery(hold_above_bytes=size))
    assert before.tensor.data == b"x" * size
    assert after.tensor.data == bytes(size)
