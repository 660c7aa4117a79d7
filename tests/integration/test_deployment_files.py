"""What deploy/ has: it fits together, and to the server and the image."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gradwire_server.access.tokens import read_tokens_file
from gradwire_server.buckets import COUNTERS, PHASES
from gradwire_server.config import ENV_PREFIX, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("cpu", "gpu", "dev")
KUBERNETES_VERSION = "1.33"
IMAGE_PORTS = {
    int(port)
    for port in re.findall(r"^EXPOSE (.+)$", (ROOT / "Dockerfile").read_text(), re.M)[0].split()
}

Manifest = dict[str, Any]


@cache
def render(overlay: str) -> list[Manifest]:
    """Returns the manifests of an overlay, as kubectl would apply them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        reason = "kubectl: not on the PATH"
        if os.environ.get("GRADWIRE_REQUIRE_KUBECTL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    rendered = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stderr == ""
    return [each for each in yaml.safe_load_all(rendered.stdout) if each is not None]


def of_kind(overlay: str, kind: str) -> Iterator[Manifest]:
    return (each for each in render(overlay) if each["kind"] == kind)


def the(overlay: str, kind: str, name: str = "gradwire") -> Manifest:
    (found,) = (each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name)
    return found


def container_of(overlay: str) -> Manifest:
    (container,) = the(overlay, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment_of(overlay: str) -> Mapping[str, str]:
    return {each["name"]: each["value"] for each in container_of(overlay)["env"]}


def as_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings that environment variables give."""
    return {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENV_PREFIX)
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_what_kubernetes_expects(overlay: str) -> None:
    for manifest in render(overlay):
        # The schemas have no resources of the Prometheus operator.
        if manifest["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_the_pods(overlay: str) -> None:
    labels = the(overlay, "StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [each["spec"]["selector"] for each in of_kind(overlay, "Service")]
    for kind, field in (
        ("StatefulSet", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ):
        selectors.append(the(overlay, kind)["spec"][field]["matchLabels"])
    for selector in selectors:
        assert selector
        assert selector.items() <= labels


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_starts_with_the_settings_that_it_is_given(overlay: str) -> None:
    settings = as_settings(environment_of(overlay))
    loaded = load_settings(address="0.0.0.0:50051", plaintext=True, **settings)
    ports = {each["name"]: each["containerPort"] for each in container_of(overlay)["ports"]}

    assert loaded.page_address == f"0.0.0.0:{ports['page']}"
    assert loaded.metrics_address == f"0.0.0.0:{ports['metrics']}"
    assert {ports["grpc"], ports["health"], ports["page"]} <= IMAGE_PORTS
    mounts = {each["name"]: each["mountPath"] for each in container_of(overlay)["volumeMounts"]}
    assert str(loaded.tokens_file).startswith(f"{mounts['tokens']}/")
    grace = the(overlay, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > loaded.drain_timeout_seconds


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_port_that_is_named_is_one_of_the_container(overlay: str) -> None:
    container = container_of(overlay)
    names = {each["name"] for each in container["ports"]}
    for service in of_kind(overlay, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for rule in the(overlay, "NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= names
    probed = {container[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "readiness")}
    assert probed == {50052}
    assert the(overlay, "StatefulSet")["spec"]["serviceName"] in {
        each["metadata"]["name"]
        for each in of_kind(overlay, "Service")
        if each["spec"].get("clusterIP") == "None"
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_container_has_no_rights_that_it_does_not_need(overlay: str) -> None:
    security = container_of(overlay)["securityContext"]
    pod = the(overlay, "StatefulSet")["spec"]["template"]["spec"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert "memory" in container_of(overlay)["resources"]["limits"]


def test_the_gpu_overlay_asks_for_a_gpu_and_the_others_do_not() -> None:
    for overlay in OVERLAYS:
        asked = "nvidia.com/gpu" in container_of(overlay)["resources"]["limits"]
        assert asked == (overlay == "gpu")
        assert environment_of(overlay)["GRADWIRE_DEVICE"] == ("cuda" if asked else "cpu")


def test_prometheus_finds_the_metrics_and_the_autoscaler_its_metric() -> None:
    monitor = the("cpu", "ServiceMonitor")["spec"]
    service = the("cpu", "Service", "gradwire-metrics")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [each["port"] for each in monitor["endpoints"]] == ["metrics"]
    (metric,) = the("cpu", "HorizontalPodAutoscaler")["spec"]["metrics"]
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{metric['pods']['metric']['name']}{{")
    assert metric["pods"]["metric"]["name"] in known_metrics()


def test_the_alerts_are_the_same_for_the_operator() -> None:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    manifest = yaml.safe_load((KUBERNETES / "base" / "prometheusrule.yaml").read_text())
    assert manifest["spec"] == alerts
    assert the("cpu", "PrometheusRule")["metadata"]["name"] == manifest["metadata"]["name"]


def test_the_token_of_the_dev_overlay_is_the_one_that_it_names() -> None:
    (entry,) = read_tokens_file(KUBERNETES / "overlays" / "dev" / "tokens")
    assert entry.expires is None
    text = (KUBERNETES / "overlays" / "dev" / "kustomization.yaml").read_text()
    assert "GRADWIRE_TOKEN=gw_development" in text
    assert entry == type(entry).of("gw_development", entry.caller.tenant, entry.caller.role, None)


@cache
def known_metrics() -> frozenset[str]:
    """Returns the names of the metrics that the server's sources define."""
    folder = ROOT / "server" / "gradwire_server" / "observability"
    source = "".join((folder / f"{name}.py").read_text() for name in ("metrics", "collector"))
    names = set(re.findall(r'"((?:gradwire|grpc)_[a-z_]+)"', source))
    names |= {f"gradwire_command_{phase}_seconds" for phase in PHASES}
    return frozenset(names | {f"gradwire_{name}" for name in COUNTERS})


def test_every_metric_of_the_dashboard_is_one_of_the_server() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "gradwire.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {
        name for query in queries for name in re.findall(r"(?:gradwire|grpc)_[a-z_]+(?={)", query)
    }
    assert len(used) > 10
    plain = {re.sub(r"_(total|count|sum|bucket)$", "", name) for name in used}
    assert plain <= known_metrics()


def test_every_metric_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    assert {name for name in known_metrics() if f"`{name}" not in text} == set()


@cache
def compose() -> Manifest:
    return dict(yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text()))


def test_the_files_that_compose_mounts_are_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).exists(), source
            else:
                assert source in compose()["volumes"]


@pytest.mark.parametrize("service", ["gradwire-cpu", "gradwire-gpu"])
def test_the_server_starts_with_the_settings_of_compose(service: str) -> None:
    described = compose()["services"][service]
    settings = as_settings(described["environment"])
    loaded = load_settings(address="0.0.0.0:50051", plaintext=True, **settings)
    targets = [f"{alias}:9464" for alias in described["networks"]["default"]["aliases"]]

    assert loaded.metrics_address == "0.0.0.0:9464"
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    assert [each for config in job["static_configs"] for each in config["targets"]] == targets
    assert {int(port.rpartition(":")[2]) for port in described["ports"]} <= IMAGE_PORTS
    assert all(port.startswith("127.0.0.1:") for port in described["ports"])
    assert described["stop_grace_period"] == "60s"


def test_every_setting_that_deploy_names_is_a_setting() -> None:
    for path in DEPLOY.rglob("*.y*ml"):
        for name in re.findall(rf"{ENV_PREFIX}[A-Z_]+", path.read_text()):
            setting = name.removeprefix(ENV_PREFIX).lower()
            assert setting in Settings.model_fields, f"{path}: {name}"


def test_prometheus_shows_a_token_that_it_is_given() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (secret,) = compose()["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    environment = compose()["services"]["gradwire-cpu"]["environment"]
    assert compose()["secrets"][secret]["environment"] in environment
    (endpoint,) = the("cpu", "ServiceMonitor")["spec"]["endpoints"]
    named = endpoint["authorization"]["credentials"]["name"]
    text = (KUBERNETES / "overlays" / "cpu" / "kustomization.yaml").read_text()
    assert f"kubectl create secret generic {named} " in text


def test_grafana_finds_its_data_and_its_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "gradwire.json").read_text())
    assert source["url"] == "http://prometheus:9090"
    for panel in dashboard["panels"]:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "gradwire.yaml").read_text())[
        "providers"
    ]
    mounts = compose()["services"]["grafana"]["volumes"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in mounts
