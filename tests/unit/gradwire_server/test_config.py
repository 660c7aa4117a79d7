from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gradwire_server.config import Settings, SettingsError, load_settings
from gradwire_server.limits import Limits


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GRADWIRE_{name.upper()}", raising=False)
    monkeypatch.delenv("GRADWIRE_CONFIG", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gradwire.yaml"
    path.write_text("workers: 2\nthreads: 2\nmax_sessions: 2\n")
    return path


def test_the_defaults_serve_this_host_only() -> None:
    settings = load_settings()
    assert settings.address == "127.0.0.1:50051"
    assert settings.device == "auto"
    assert settings.token is None
    assert settings.limits == Limits()
    assert settings.storage.startswith("file:///")


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADWIRE_WORKERS", "3")
    monkeypatch.setenv("GRADWIRE_THREADS", "3")
    settings = load_settings(config, workers=4, threads=None)
    assert (settings.workers, settings.threads, settings.max_sessions) == (4, 3, 2)


def test_the_file_may_be_named_by_the_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADWIRE_CONFIG", str(config))
    assert load_settings().workers == 2


def test_every_limit_is_a_setting_with_the_same_default() -> None:
    for field in fields(Limits):
        assert Settings.model_fields[field.name].default == field.default


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"address": "nowhere"}, "address: .*expected HOST:PORT"),
        ({"device": "gpu"}, 'device: "gpu" is no device'),
        ({"workers": 0}, "workers: .*greater than or equal to 1.*got 0"),
        ({"log_format": "xml"}, "log_format: .*'json' or 'text'"),
        ({"storage": "folder"}, "storage: .*neither a URL"),
        ({"max_message_bytes": "big"}, "max_message_bytes: .*integer"),
        ({"session_idle_timeout_seconds": -1}, "session_idle_timeout_seconds"),
        ({"token": ""}, "token is empty"),
        ({"tls_key_file": "key.pem"}, "tls_certificate_file and tls_key_file go together"),
        ({"tls_client_ca_file": "ca.pem"}, "tls_client_ca_file needs"),
        ({"workers": 0, "threads": -1}, "workers.*; threads"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["colour: red\n", "workers: [\n", "- a list\n", "workers: none\n"])
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("workers: 1\n\nthreads: few\n", "line 3: threads: "),
        (
            "# ours\nmax_sesions: 2\n",
            "line 2: max_sesions: .*; did you mean max_sessions",
        ),
        ("workers: 1\nthreads: [\n", "line 3"),
        ("- workers\n", "line 1: expected settings by name"),
        ("workers\n", "line 1: expected settings by name"),
        ("workers: 1\nthreads: 2\nworkers: 3\n", "line 3: workers: is there already, in line 1"),
        (
            "tenants:\n  acme:\n    max_runs: 1\n    max_rums: 2\n",
            r"line 4: tenants\.acme\.max_rums: is none of max_sessions",
        ),
        ("tenants:\n  acme:\n    max_runs: few\n", r"line 3: tenants\.acme\.max_runs: "),
        ("tenants: 3\n", "line 1: tenants: "),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line_and_setting(
    tmp_path: Path, text: str, where: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=f"config file {path}.*{where}"):
        load_settings(path)


def test_a_mistake_in_the_environment_is_told_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("workers: 1\n")
    monkeypatch.setenv("GRADWIRE_WORKERS", "0")
    with pytest.raises(SettingsError, match="GRADWIRE_WORKERS in the environment: workers: "):
        load_settings(path)


def test_a_misspelt_variable_is_told_and_variables_of_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CA_FILE", "CLIENT_KEY_FILE", "PORT", "SERVICE_HOST", "PORT_50051_TCP_ADDR"):
        monkeypatch.setenv(f"GRADWIRE_{name}", "tcp://10.0.0.1:50051")
    load_settings()
    monkeypatch.setenv("GRADWIRE_MAX_SESIONS", "3")
    with pytest.raises(SettingsError, match=r"GRADWIRE_MAX_SESIONS: .*GRADWIRE_MAX_SESSIONS"):
        load_settings()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="absent"):
        load_settings(tmp_path / "absent.yaml")


@pytest.mark.parametrize("setting", ["address", "page_address", "metrics_address"])
@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "example.org:1"])
def test_other_hosts_are_served_with_tls_and_tokens_unless_told_in_plain_words(
    setting: str, address: str
) -> None:
    exposed: dict[str, Any] = {setting: address}
    tls: dict[str, Any] = {"tls_certificate_file": "cert.pem", "tls_key_file": "key.pem"}
    with pytest.raises(SettingsError, match=r"there is no TLS.*--plaintext.*--insecure"):
        load_settings(**exposed, token="secret")
    for given in ({"plaintext": True}, tls):
        with pytest.raises(SettingsError, match=r"there is no token.*GRADWIRE_TOKEN.*--insecure"):
            load_settings(**exposed, **given)
        load_settings(**exposed, token="secret", **given)
        load_settings(**exposed, tokens_file="tokens", **given)
    load_settings(**exposed, tls_client_ca_file="ca.pem", **tls)
    load_settings(**exposed, insecure=True)


def test_the_token_is_never_shown() -> None:
    settings = load_settings(token="hunter2")
    assert "hunter2" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load_settings(token=["hunter2"])
    assert "hunter2" not in str(caught.value)
