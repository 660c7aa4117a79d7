"""Tenants on a real server: what one makes is not there for another."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import gradwire
from gradwire import nn
from gradwire.errors import AuthenticationError, GradwireError, NotFoundError
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire.v1 import models_pb2, server_pb2, sessions_pb2
from tests.processes import ServerProcess, Stubs

DEADLINE_SECONDS = 20.0


def use_until_refused(x: gradwire.Tensor) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        x.sum().item()


class Tenants:
    """A server with tokens of two tenants, and calls as their callers make them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tokens"
        self.tokens = {
            "acme": self.new_token("acme"),
            "acme looks": self.new_token("acme", role="read-only"),
            "other": self.new_token("other"),
            "admin": self.new_token("ops", role="admin"),
        }
        self.server = ServerProcess(folder, tokens_file=self.file)

    def new_token(self, tenant: str, **options: str) -> str:
        """Makes a token as an operator does."""
        given = {"tenant": tenant, "file": self.file, **options}
        result = subprocess.run(
            [
                *(sys.executable, "-m", "gradwire_server", "tokens", "new"),
                *(f"--{name}={value}" for name, value in given.items()),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return result.stdout.strip()

    @contextmanager
    def session(self, who: str) -> Iterator[Session]:
        with gradwire.connect(self.server.address, token=self.tokens[who]) as session:
            yield session

    def call(self, who: str, service: str, method: str, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {self.tokens[who]}"),)
        with open_channel(self.server.address) as channel:
            stub = getattr(Stubs(channel), service)
            return getattr(stub, method)(request, metadata=metadata, timeout=20)

    def code(self, who: str, service: str, method: str, request: Any) -> grpc.StatusCode | None:
        try:
            self.call(who, service, method, request)
        except grpc.RpcError as error:
            return error.code()
        return None

    def listed(self, who: str) -> list[str]:
        request = sessions_pb2.ListSessionsRequest()
        return [s.name for s in self.call(who, "sessions", "ListSessions", request).sessions]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    tenants = Tenants(tmp_path_factory.mktemp("tenants"))
    with tenants.server:
        yield tenants


def test_a_session_of_one_tenant_is_not_there_for_another(tenants: Tenants) -> None:
    with tenants.session("acme") as session:
        model = nn.Linear(2, 1)
        assert model(gradwire.ones(1, 2)).shape == (1, 1)
        assert session.name in tenants.listed("acme")
        assert session.name in tenants.listed("acme looks")
        assert session.name in tenants.listed("admin")
        assert session.name not in tenants.listed("other")
        get = sessions_pb2.GetSessionRequest(name=session.name)
        delete = sessions_pb2.DeleteSessionRequest(name=session.name)
        fetch = sessions_pb2.FetchValuesRequest(name=session.name, handles=[1])
        models = models_pb2.ListModelsRequest(name=session.name)
        for service, method, request in (
            ("sessions", "GetSession", get),
            ("sessions", "DeleteSession", delete),
            ("sessions", "FetchValues", fetch),
            ("models", "ListModels", models),
        ):
            assert tenants.code("other", service, method, request) is grpc.StatusCode.NOT_FOUND
        assert tenants.code("acme looks", "sessions", "GetSession", get) is None
        found = tenants.call("admin", "sessions", "GetSession", get).session
        assert found.tenant == "acme"
        # Nothing of what the other tenant tried has reached it.
        assert model(gradwire.ones(1, 2)).shape == (1, 1)


def test_what_is_not_yours_and_what_is_not_there_are_told_alike(tenants: Tenants) -> None:
    with tenants.session("acme") as session:
        words = []
        for name in (session.name, f"sessions/{'x' * 26}"):
            with pytest.raises(grpc.RpcError) as caught:
                tenants.call(
                    "other", "sessions", "GetSession", sessions_pb2.GetSessionRequest(name=name)
                )
            words.append((caught.value.code(), str(caught.value.details()).replace(name, "NAME")))
        assert words[0] == words[1]


def test_an_execute_stream_of_another_tenant_finds_no_session(tenants: Tenants) -> None:
    with tenants.session("acme") as session, open_channel(tenants.server.address) as channel:
        request = sessions_pb2.ExecuteRequest(name=session.name, seq=1)
        metadata = (("authorization", f"Bearer {tenants.tokens['other']}"),)
        call = Stubs(channel).sessions.Execute(iter([request]), metadata=metadata, timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_counts_of_workers_tell_nothing_of_others(tenants: Tenants) -> None:
    info = server_pb2.GetServerInfoRequest()

    def num_sessions(who: str) -> int:
        (worker,) = tenants.call(who, "server", "GetServerInfo", info).workers
        return int(worker.num_sessions)

    with tenants.session("acme"), tenants.session("acme"):
        assert (num_sessions("acme"), num_sessions("other"), num_sessions("admin")) == (2, 0, 2)


def test_a_request_id_of_another_tenant_gives_nothing_away(tenants: Tenants) -> None:
    request = sessions_pb2.CreateSessionRequest(request_id="the same")
    names = {
        who: tenants.call(who, "sessions", "CreateSession", request).session.name
        for who in ("acme", "other")
    }
    assert names["acme"] != names["other"]
    for who, name in names.items():
        tenants.call(who, "sessions", "DeleteSession", sessions_pb2.DeleteSessionRequest(name=name))


def test_who_only_looks_changes_nothing(tenants: Tenants) -> None:
    with pytest.raises(
        AuthenticationError, match=r"needs the role user, .* has the role read-only"
    ):
        gradwire.connect(tenants.server.address, token=tenants.tokens["acme looks"])
    with tenants.session("acme") as session:
        delete = sessions_pb2.DeleteSessionRequest(name=session.name)
        code = tenants.code("acme looks", "sessions", "DeleteSession", delete)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        fetch = sessions_pb2.FetchValuesRequest(name=session.name)
        assert tenants.code("acme looks", "sessions", "FetchValues", fetch) is None


def test_nobody_without_a_token_is_told_anything(tenants: Tenants) -> None:
    with open_channel(tenants.server.address) as channel:
        for token in ("", "gw_wrong"):
            with pytest.raises(grpc.RpcError) as caught:
                Stubs(channel).server.GetServerInfo(
                    server_pb2.GetServerInfoRequest(),
                    metadata=(("authorization", f"Bearer {token}"),),
                    timeout=20,
                )
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_that_is_added_works_and_one_that_is_taken_back_ends_its_streams(
    tmp_path: Path,
) -> None:
    tenants = Tenants(tmp_path)
    with tenants.server, tenants.session("acme"):
        x = gradwire.ones(2)
        assert x.sum().item() == 2.0
        tenants.tokens["late"] = tenants.new_token("late")
        lines = tenants.file.read_text().splitlines(keepends=True)
        tenants.file.write_text("".join(line for line in lines if "acme" not in line))
        with pytest.raises(AuthenticationError, match="taken back"):
            use_until_refused(x)
        with tenants.session("late"):
            assert gradwire.ones(2).sum().item() == 2.0
        with pytest.raises(AuthenticationError, match="does not know the token"):
            gradwire.connect(tenants.server.address, token=tenants.tokens["acme"])


def test_the_command_lists_what_the_caller_sees(tenants: Tenants) -> None:
    with tenants.session("acme") as session:
        for who, sees in (("acme", True), ("admin", True), ("other", False)):
            result = subprocess.run(
                [
                    *(sys.executable, "-m", "gradwire_server", "sessions"),
                    *("--address", tenants.server.address, "--token", tenants.tokens[who]),
                ],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert (session.name in result.stdout) is sees


def test_an_error_of_another_tenants_session_is_a_lookup_error_of_the_sdk(
    tenants: Tenants,
) -> None:
    with tenants.session("acme") as mine, tenants.session("other") as theirs:
        request = sessions_pb2.GetSessionRequest(name=mine.name)
        with pytest.raises(NotFoundError) as caught:
            theirs.call(Stubs(theirs.channel).sessions.GetSession, request)
        assert isinstance(caught.value, GradwireError)
        assert isinstance(caught.value, LookupError)
