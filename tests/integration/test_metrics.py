"""Metrics of a real server, scraped by a real Prometheus where one is installed."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import gradwire
from gradwire import nn, optim
from gradwire.errors import AuthenticationError, LimitError, SessionLostError
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire.transport.tls import Tls
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from tests.certificates import Authority
from tests.processes import ServerProcess, Stubs, free_port

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
DEADLINE_SECONDS = 60.0

T = TypeVar("T")


def installed(name: str) -> str:
    """Returns the path of a program of Prometheus; skips, or fails where it must be there."""
    path = shutil.which(name)
    if path is None and os.environ.get("GRADWIRE_REQUIRE_PROMETHEUS") == "1":
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed; Debian's package is prometheus")
    return path


def until(find: Callable[[], T]) -> T:
    """Returns what is found, once it is something."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


class Watched:
    """A server with metrics."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.target = f"127.0.0.1:{free_port()}"
        self.server = ServerProcess(folder, metrics_address=self.target, **options)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Returns the value of each series."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(get(f"http://{self.target}/metrics"))
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum over the series of a metric that have some labels."""
        return sum(
            value
            for (found, its_labels), value in self.samples().items()
            if found == name and its_labels >= set(labels.items())
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("metrics"), max_session_bytes=1_000_000)
    with watched.server:
        yield watched


def train(num_steps: int) -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(gradwire.ones(4, 2)).sum().backward()
        optimizer.step()
    assert model.weight.sum().isfinite().item()


def test_what_a_training_loop_does_is_counted(watched: Watched) -> None:
    before = watched.total("gradwire_training_steps_total")
    with gradwire.connect(watched.server.address):
        train(7)
        assert watched.total("gradwire_training_steps_total") - before == 7
        assert watched.total("gradwire_sessions", tenant="default", device="cpu") == 1
        assert watched.total("gradwire_session_bytes", tenant="default") > 0
        for phase in ("queue", "execute", "decode", "encode"):
            assert watched.total(f"gradwire_command_{phase}_seconds_count") > 0
        kinds = watched.total("gradwire_command_execute_seconds_count", kind="run_program")
        assert kinds > 0
    assert watched.total("gradwire_sessions") == 0
    # What a session did stays counted when it has ended.
    assert watched.total("gradwire_training_steps_total") - before == 7
    assert watched.total("gradwire_worker_ready", worker="worker-0") == 1
    assert watched.total("gradwire_worker_resident_bytes") > 0


def test_how_far_a_run_is_is_told_until_it_has_ended(watched: Watched) -> None:
    def states(state: str) -> float:
        return watched.total("gradwire_runs", tenant="default", state=state)

    ended = states("cancelled")
    with gradwire.connect(watched.server.address):
        model = nn.Linear(2, 1)
        run = gradwire.train(
            model,
            (gradwire.ones(40, 2), gradwire.ones(40, 1)),
            loss=nn.MSELoss(),
            optimizer=optim.SGD(model.parameters(), lr=0.0),
            batch_size=4,
            accumulate=2,
            epochs=1_000_000,
            wait=False,
        )
        until(lambda: run.refresh().num_steps > 0)
        run.pause()
        until(lambda: states("paused") == 1)
        assert states("running") == 0
        its = {"tenant": "default", "run": run.name.removeprefix("runs/")}
        steps = watched.total("gradwire_run_steps", **its)
        assert steps == run.refresh().num_steps
        # Ten batches make five steps of two each.
        assert watched.total("gradwire_run_epochs", **its) == steps / 5
        assert watched.total("gradwire_run_progress_ratio", **its) == steps / 5_000_000
        assert watched.total("gradwire_run_steps_per_second", **its) > 0
        assert watched.total("gradwire_run_loss", **its) == pytest.approx(
            run.mean_loss,
            nan_ok=True,  # between two epochs there is none
        )
        run.cancel()
        until(lambda: states("cancelled") == ended + 1)
        assert states("paused") == 0
        assert not any(its.items() <= labels for _, labels in watched.samples())


def test_calls_are_counted_by_method_and_status_and_refusals_by_limit(watched: Watched) -> None:
    created = {
        "grpc_method": "gradwire.v1.SessionService/CreateSession",
        "grpc_status": "OK",
    }
    name = "grpc_server_call_duration_seconds_count"
    before = watched.total(name, **created)
    with gradwire.connect(watched.server.address) as session:
        with pytest.raises(LimitError):
            gradwire.zeros(10_000, 10_000).sum().item()
        with open_channel(watched.server.address) as channel:
            assert Stubs(channel).workers()
        assert watched.total(name, **created) - before == 1
        assert watched.total("gradwire_command_failures_total", reason="LIMIT_EXCEEDED") >= 1
        assert session.device == "cpu"
    buckets = watched.total("grpc_server_call_duration_seconds_bucket", le="+Inf", **created)
    assert buckets == watched.total(name, **created)


def test_a_worker_that_is_restarted_is_counted(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    with watched.server:
        session = gradwire.connect(watched.server.address)
        x = gradwire.ones(2)
        session.flush()
        with open_channel(watched.server.address) as channel:
            (worker,) = Stubs(channel).workers()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(SessionLostError):
            x.sum().item()
        until(lambda: watched.total("gradwire_worker_restarts_total") == 1)
        assert watched.total("gradwire_sessions_lost_total") == 1
        session.close()


class Secured:
    """A server with TLS, and a token of each role."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        files = self.authority.issue("server")
        self.tokens = {role: new_token() for role in Role}
        for role, token in self.tokens.items():
            append_token(folder / "tokens", TokenEntry.of(token, "acme", role, None))
        self.port = free_port()
        self.server = ServerProcess(
            folder,
            metrics_address=f"127.0.0.1:{self.port}",
            tokens_file=folder / "tokens",
            tls_certificate_file=files.certificate,
            tls_key_file=files.key,
            tls=Tls(ca_file=str(self.authority.file)),
            address=f"127.0.0.1:{free_port()}",
            audit_log_file=folder / "audit",
        )

    def connect(self, role: Role) -> Session:
        """Connects with the token of a role."""
        session: Session = gradwire.connect(
            self.server.address, token=self.tokens[role], ca_file=self.authority.file
        )
        return session


def test_metrics_are_told_over_tls_to_monitors_and_admins_only(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    tokens, port = secured.tokens, secured.port
    context = ssl.create_default_context(cafile=secured.authority.file)

    def status(**headers: str) -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        assert (b"gradwire_worker_ready" in response.read()) == (response.status == 200)
        connection.close()
        return response.status

    with secured.server:
        answers = {role: status(authorization=f"Bearer {tokens[role]}") for role in Role}
        assert answers == {
            Role.ADMIN: 200,
            Role.USER: 403,
            Role.READ_ONLY: 403,
            Role.MONITOR: 200,
        }
        assert status() == status(authorization="Bearer wrong") == 401
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            get(f"https://127.0.0.1:{port}/metrics")
        with pytest.raises(AuthenticationError, match="needs the role user"):
            secured.connect(Role.MONITOR)
    audit = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    refused = [each["status"] for each in audit if each["method"] == "GET /metrics"]
    assert sorted(refused) == ["PERMISSION_DENIED"] * 2 + ["UNAUTHENTICATED"] * 2
    assert not any(token in json.dumps(audit) for token in tokens.values())


def test_metrics_without_tokens_are_not_for_the_scripts_of_a_site(watched: Watched) -> None:
    def status(host: str) -> int:
        connection = http.client.HTTPConnection(watched.target, timeout=60)
        connection.request("GET", "/metrics", headers={"host": host})
        code = connection.getresponse().status
        connection.close()
        return code

    assert status("attacker.example") == 421
    assert status("localhost:9464") == 200


def test_what_cannot_be_parsed_is_refused_and_not_logged(watched: Watched) -> None:
    host, _, port = watched.target.partition(":")
    for line in (
        b"GET /metrics HT\xd3P/1.1\r\nAuthorization: Bearer gw_secret",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization\0: Bearer gw_secret",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(line + b"\r\n\r\n")
            assert connection.recv(4096).split()[1] == b"400"
    request = urllib.request.Request(
        f"http://{watched.target}/metrics",
        headers={"Accept": "application/openmetrics-text;version=one"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert b"gradwire_worker_ready" in response.read()
    assert "gw_secret" not in watched.server.log()
    assert "Traceback" not in watched.server.log()


def test_a_taken_port_keeps_the_server_from_starting(watched: Watched, tmp_path: Path) -> None:
    second = ServerProcess(tmp_path, metrics_address=watched.target)
    assert second.process.wait(60) == 2
    assert f"metrics_address: cannot listen on {watched.target}" in second.log()
    assert not (tmp_path / "server.sock").exists()


def test_a_prometheus_scrapes_all_of_it_over_tls_and_with_a_token(tmp_path: Path) -> None:
    prometheus = installed("prometheus")
    secured = Secured(tmp_path)
    text = (RULES / "prometheus.yml").read_text().replace("15s", "1s")
    config = yaml.safe_load(text.replace("gradwire:9464", f"127.0.0.1:{secured.port}"))
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(tmp_path / "token")
    job |= {"scheme": "https", "tls_config": {"ca_file": str(secured.authority.file)}}
    (tmp_path / "token").write_text(secured.tokens[Role.MONITOR])
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES / "alerts.yml", tmp_path)
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            prometheus,
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def query(expression: str) -> list[Any]:
        parameters = urllib.parse.urlencode({"query": expression})
        try:
            text = get(f"http://{address}/api/v1/query?{parameters}")
        except OSError:
            return []
        return list(json.loads(text)["data"]["result"])

    try:
        with secured.server, secured.connect(Role.USER):
            train(5)
            until(lambda: query('up{job="gradwire"} == 1'))
            until(lambda: query('gradwire_sessions{tenant="acme"} == 1'))
            until(lambda: query("sum(gradwire_training_steps_total) >= 5"))
            quantile = "histogram_quantile(0.5, gradwire_command_execute_seconds_bucket)"
            assert until(lambda: query(quantile))
        rules = json.loads(get(f"http://{address}/api/v1/rules"))["data"]["groups"][0]["rules"]
        assert all(rule["health"] in {"ok", "unknown"} for rule in rules)
    finally:
        process.terminate()
        process.wait(30)


def test_the_alerts_fire_when_they_should() -> None:
    promtool = installed("promtool")
    for arguments in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        result = subprocess.run(
            [promtool, *arguments], cwd=RULES, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_and_uses_metrics_that_there_are(watched: Watched) -> None:
    rules, tests = ((RULES / name).read_text() for name in ("alerts.yml", "alerts_test.yml"))
    for alert in re.findall(r"alert: (\w+)", rules):
        assert f"alertname: {alert}" in tests
    text = get(f"http://{watched.target}/metrics")
    for name in set(re.findall(r"\b(?:gradwire|grpc)_\w+", rules)) - {"grpc_method", "grpc_status"}:
        family = re.sub(r"_(total|count|bucket)$", "", name)
        assert f"# TYPE {family}" in text or name.startswith("gradwire_gpu_"), name
