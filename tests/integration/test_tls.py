"""TLS between the SDK or the command and a real server."""

import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradwire
from gradwire.errors import DeadlineError, ServerUnavailableError
from gradwire.transport.tls import Tls
from tests.certificates import Authority, Files
from tests.processes import ServerProcess, free_port

DEADLINE_SECONDS = 20.0


def serve(folder: Path, authority: Authority, files: Files, **options: Any) -> ServerProcess:
    address = f"127.0.0.1:{free_port()}"
    return ServerProcess(
        folder,
        address=address,
        tls=options.pop("tls", Tls(ca_file=str(authority.file))),
        tls_certificate_file=files.certificate,
        tls_key_file=files.key,
        **options,
    )


def train_a_step(address: str, **how: Any) -> float:
    with gradwire.connect(address, **how):
        return float(gradwire.ones(2).sum().item())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def served_certificate(address: str) -> str:
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_a_session_over_tls_by_address_by_arguments_and_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    with serve(tmp_path, authority, authority.issue("server"), token="open sesame") as server:
        given = {"ca_file": authority.file, "token": "open sesame"}
        assert train_a_step(server.address, **given) == 2.0
        assert train_a_step(f"grpcs://{server.address}", **given) == 2.0
        monkeypatch.setenv("GRADWIRE_CA_FILE", str(authority.file))
        monkeypatch.setenv("GRADWIRE_ADDRESS", f"grpcs://{server.address}")
        monkeypatch.setenv("GRADWIRE_TOKEN", "open sesame")
        assert gradwire.connect().device == "cpu"
        gradwire.current_session().close()


def test_a_server_that_the_authority_does_not_vouch_for_is_refused_at_once(
    tmp_path: Path,
) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    with serve(tmp_path, authority, authority.issue("server")) as server:
        with pytest.raises(ServerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            gradwire.connect(server.address, ca_file=stranger.file)
        with pytest.raises((ServerUnavailableError, DeadlineError)):
            gradwire.connect(server.address, timeout_seconds=1)


def test_callers_show_a_certificate_where_the_server_wants_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    stranger = Authority(tmp_path / "theirs")
    client = authority.issue("client", "client@example.org")
    shown = {
        "ca_file": authority.file,
        "client_certificate_file": client.certificate,
        "client_key_file": client.key,
    }
    tls = Tls(
        ca_file=str(authority.file),
        certificate_file=str(client.certificate),
        key_file=str(client.key),
    )
    with serve(
        tmp_path,
        authority,
        authority.issue("server"),
        tls_client_ca_file=authority.file,
        tls=tls,
    ) as server:
        assert train_a_step(server.address, **shown) == 2.0
        wrong = stranger.issue("client", "client@example.org")
        refused: list[dict[str, Any]] = [
            {"ca_file": authority.file},
            {
                "ca_file": authority.file,
                "client_certificate_file": wrong.certificate,
                "client_key_file": wrong.key,
            },
        ]
        for given in refused:
            with pytest.raises((ServerUnavailableError, DeadlineError)):
                gradwire.connect(server.address, timeout_seconds=1, **given)


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_never(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server")
    with serve(tmp_path, authority, files) as server:
        first = served_certificate(server.address)
        with gradwire.connect(server.address, ca_file=authority.file):
            x = gradwire.ones(2)
            authority.issue("server")
            until(lambda: served_certificate(server.address) != first)
            assert x.sum().item() == 2.0
        second = served_certificate(server.address)
        files.key.write_text("no key")
        until(
            lambda: served_certificate(server.address) == second and "not reloaded" in server.log()
        )
        assert train_a_step(server.address, ca_file=authority.file) == 2.0


def test_files_that_do_not_fit_are_told_by_the_sdk(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(ValueError, match="go together"):
        gradwire.connect("127.0.0.1:1", client_key_file=one.key)
    with pytest.raises(ValueError, match=r"KEY_VALUES_MISMATCH.*one\.pem.*other\.key"):
        gradwire.connect(
            "127.0.0.1:1", client_certificate_file=one.certificate, client_key_file=other.key
        )
    with pytest.raises(FileNotFoundError):
        gradwire.connect("127.0.0.1:1", ca_file=tmp_path / "absent.pem")
    with pytest.raises(ValueError, match="says that there is no TLS"):
        gradwire.connect("grpc://127.0.0.1:1", ca_file=authority.file)


def refusal(*arguments: object) -> str:
    """Returns what `gradwire serve` says when it refuses to start."""
    command = [sys.executable, "-m", "gradwire_server", "serve", "--address=127.0.0.1:0"]
    result = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "listening" not in result.stderr
    (line,) = result.stderr.splitlines()
    return line


def test_certificates_that_cannot_be_used_keep_a_server_from_starting(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    certificate, key = "--tls-certificate-file", "--tls-key-file"
    said = refusal(certificate, one.certificate, key, other.key)
    assert f"the key {other.key} is not the key of the certificate {one.certificate}" in said
    assert f"{broken} has no certificate in PEM" in refusal(certificate, broken, key, one.key)
    assert f"{broken} has no private key in PEM" in refusal(
        certificate, one.certificate, key, broken
    )
    assert "cannot read" in refusal(certificate, tmp_path / "absent", key, one.key)
    said = refusal(certificate, one.certificate, key, one.key, "--tls-client-ca-file", broken)
    assert f"{broken} has no certificate" in said


def test_the_command_reaches_a_server_with_tls_and_a_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serve(tmp_path, authority, authority.issue("server"), token="open sesame") as server:
        command = [sys.executable, "-m", "gradwire_server", "workers"]
        options = ["--address", f"grpcs://{server.address}", "--ca-file", str(authority.file)]
        for token, status in (("open sesame", 0), ("open barley", 1)):
            result = subprocess.run(
                [*command, *options, "--token", token],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert result.returncode == status
            assert ("worker-0" in result.stdout) is (status == 0)
            assert ("UNAUTHENTICATED" in result.stderr) is (status == 1)
