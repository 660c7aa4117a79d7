"""The examples in the documentation run as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.json_format import Parse

from gradwire.v1 import server_pb2, server_pb2_grpc
from gradwire_server.transport.routes import SERVICES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
INTEGRATION = (ROOT / "docs" / "integration.md").read_text()
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    f"{page.relative_to(ROOT)}-{number}": example
    for page in PAGES
    for number, example in enumerate(EXAMPLE.findall(page.read_text()), start=1)
}


def run(source: str, folder: Path) -> str:
    """Runs a script in a program of its own, on a server that it starts; returns its output."""
    script = folder / "example.py"
    script.write_text(source)
    finished = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name != "GRADWIRE_ADDRESS"},
            "XDG_DATA_HOME": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    run(example, tmp_path)


def test_the_javascript_of_the_integration_page_makes_a_model(tmp_path: Path, address: str) -> None:
    (example,) = re.findall(r"^```javascript\n(.*?)^```$", INTEGRATION, re.MULTILINE | re.DOTALL)
    script = tmp_path / "example.cjs"
    script.write_text(example)
    finished = subprocess.run(
        [str(Path(sys.executable).parent / "node"), str(script)],
        cwd=ROOT,
        env={
            **os.environ,
            "GRADWIRE_ADDRESS": address,
            "NODE_PATH": str(ROOT / "node_modules"),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "Linear(in_features=3, out_features=1, bias=True) 4\n"


def test_the_service_config_is_one_that_grpc_takes_and_names_what_there_is(address: str) -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", INTEGRATION, re.MULTILINE | re.DOTALL)
    (method_config,) = json.loads(text)["methodConfig"]
    services = {service.full_name: service for service in SERVICES}
    for name in method_config["name"]:
        service = services[name["service"]]
        assert "method" not in name or name["method"] in service.methods_by_name
    with grpc.insecure_channel(address, options=(("grpc.service_config", text),)) as channel:
        info = server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
            server_pb2.GetServerInfoRequest(), timeout=30
        )
        assert info.server_version


def test_the_calls_of_grpcurl_are_calls_of_the_contract() -> None:
    services = {service.full_name: service for service in SERVICES}
    calls = re.findall(r"(gradwire\.v1\.\w+)/(\w+)$", INTEGRATION, re.MULTILINE)
    bodies = re.findall(r"-d '(\{.*?\})'", INTEGRATION, re.DOTALL)
    assert len(calls) == 2
    methods = [services[service].methods_by_name[method] for service, method in calls]
    for method, body in zip(methods[1:], bodies, strict=True):
        Parse(body, message_factory.GetMessageClass(method.input_type)())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_operations_page_tells_of_every_alert() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    page = (ROOT / "docs" / "operations.md").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    assert alerts
    assert [alert for alert in alerts if f"| `{alert}` |" not in page] == []


def test_the_example_of_the_readme_prints_what_torch_prints(tmp_path: Path) -> None:
    remote = EXAMPLES["README.md-1"]
    local = remote.replace("import gradwire", "import torch")

    printed = run(remote, tmp_path)

    assert printed.count("\n") == 5
    assert printed == run(local, tmp_path)
