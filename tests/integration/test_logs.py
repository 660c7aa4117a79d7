"""The log and the audit log of a real server."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

import gradwire
from gradwire.errors import AuthenticationError, SessionLostError
from gradwire.transport.channel import open_channel
from gradwire.v1 import sessions_pb2
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from tests.processes import ServerProcess, Stubs


def audited(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_audit_log_says_who_did_what_and_no_secrets(tmp_path: Path) -> None:
    tokens, path = tmp_path / "tokens", tmp_path / "audit.log"
    token, looker = new_token(), new_token()
    append_token(tokens, TokenEntry.of(token, "acme", Role.USER, None))
    append_token(tokens, TokenEntry.of(looker, "acme", Role.READ_ONLY, None))
    with ServerProcess(tmp_path, tokens_file=tokens, audit_log_file=path) as server:
        with gradwire.connect(server.address, token=token) as session:
            assert gradwire.tensor([31337.0, 1.0]).sum().item() == 31338.0
            session.call(
                Stubs(session.channel).sessions.ListSessions, sessions_pb2.ListSessionsRequest()
            )
        for wrong in (looker, "gw_wrong"):
            with pytest.raises(AuthenticationError):
                gradwire.connect(server.address, token=wrong)
    lines = audited(path)
    found = [(line["method"].partition("/")[2], line["status"]) for line in lines]
    # The stream ends by itself or is cancelled, before or after the session is deleted.
    assert [each for each in found if each[0] != "Execute"] == [
        ("CreateSession", "OK"),
        ("DeleteSession", "OK"),
        ("CreateSession", "PERMISSION_DENIED"),
        ("CreateSession", "UNAUTHENTICATED"),
    ]
    assert [each[0] for each in found].count("Execute") == 1
    create = lines[0]
    assert create["tenant"] == "acme"
    assert create["role"] == "user"
    assert create["resource"].startswith(session.name[:17])
    assert create["token"] in tokens.read_text()
    assert create["request_id"]
    text = path.read_text() + server.log()
    for secret in (token, looker, session.name, "31337", "gw_"):
        assert secret not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_audit_log_may_be_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    with ServerProcess(tmp_path, audit_log_file=path) as server:
        gradwire.connect(server.address).close()
        path.rename(tmp_path / "old.log")
        gradwire.connect(server.address).close()
    assert len(audited(tmp_path / "old.log")) == 2
    assert len(audited(path)) == 2


def test_lines_of_the_log_say_whose_call_they_are_about(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, log_format="json") as server:
        session = gradwire.connect(server.address)
        x = gradwire.ones(2)
        session.flush()
        with open_channel(server.address) as channel:
            (worker,) = Stubs(channel).workers()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(SessionLostError):
            x.sum().item()
        session.close()
    lines = [json.loads(line) for line in server.log().splitlines()]
    (created,) = [line for line in lines if line["event"] == "session created"]
    assert created["tenant"] == "default"
    assert created["method"] == "gradwire.v1.SessionService/CreateSession"
    assert created["session"].startswith("sessions/")
    assert created["logger"] == "gradwire_server.sessions.registry"
    assert created["level"] == "info"
    assert session.name not in server.log()


def test_single_modules_may_log_more_or_less(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, log_level="warning,sessions=info") as server:
        gradwire.connect(server.address).close()
    assert "session created" in server.log()
    assert "listening" not in server.log()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--log-level=loud", 'log_level: "loud" is no level; expected one of debug, info'),
        ("--log-level=info,sessions", 'log_level: "sessions" is no MODULE=LEVEL'),
        ("--audit-log-file=/nonexistent/audit", "audit_log_file: "),
        ("--metrics-address=here", 'metrics_address: "here" is no address; expected HOST:PORT'),
        ("--otlp-endpoint=localhost:4317", "otlp_endpoint: "),
        ("--otlp-endpoint=http://", "otlp_endpoint: "),
        ("--storage=/dev/null/x", "storage: "),
        ("--device=cuda:99", "device: there is no device cuda:99"),
    ],
)
def test_what_cannot_be_used_keeps_the_server_from_starting(option: str, message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gradwire_server", "serve", "--address=127.0.0.1:0", option],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "listening" not in result.stderr


def test_looking_into_grpc_is_off_unless_asked_for_and_for_admins_only(tmp_path: Path) -> None:
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    def code(address: str, token: str) -> grpc.StatusCode | None:
        with open_channel(address) as channel:
            stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
            metadata = (("authorization", f"Bearer {token}"),)
            try:
                found = stub.GetServers(channelz_pb2.GetServersRequest(), metadata=metadata)
            except grpc.RpcError as error:
                return error.code()
            assert found.server
            return None

    tokens = tmp_path / "tokens"
    user, admin = new_token(), new_token()
    append_token(tokens, TokenEntry.of(user, "acme", Role.USER, None))
    append_token(tokens, TokenEntry.of(admin, "ops", Role.ADMIN, None))
    with ServerProcess(tmp_path, tokens_file=tokens, channelz=True) as server:
        assert code(server.address, user) is grpc.StatusCode.PERMISSION_DENIED
        assert code(server.address, admin) is None
    with ServerProcess(tmp_path, tokens_file=tokens) as server:
        assert code(server.address, admin) is grpc.StatusCode.UNIMPLEMENTED
