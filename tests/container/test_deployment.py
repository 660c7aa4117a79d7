"""The container as a platform runs it: callers outside, TLS, volumes, limits, stops and kills."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import docker
import numpy as np
import pytest
from docker.models.containers import Container
from docker.models.volumes import Volume

import gradwire
from gradwire import datasets
from gradwire.current import push_session
from gradwire.errors import AuthenticationError, SessionLostError
from gradwire.v1 import models_pb2, server_pb2
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry
from tests.certificates import Authority
from tests.container.conftest import (
    PAGE_PORT,
    ROOT,
    TOKEN,
    connect,
    linear,
    published,
    run_server,
    tensor,
    wait_until,
    wait_until_serving,
)
from tests.integration.test_examples import WITHOUT_TORCH, accuracies
from tests.processes import Stubs

# The first test to run builds the image.
pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

STRANGER = 54321
"""A user id that the image does not know."""

COMPILE = """
import torch
print(torch.compile(lambda x: (x.sin() + 1).relu().sum())(torch.zeros(1000)).item())
"""
MEBIBYTE = 1024 * 1024

BEGIN_RUN = """
import os
import numpy as np
import gradwire

model = gradwire.nn.Linear(4, 1)
run = gradwire.train(
    model,
    (np.ones((64, 4), dtype=np.float32), np.ones((64, 1), dtype=np.float32)),
    loss=gradwire.nn.MSELoss(),
    optimizer=gradwire.optim.SGD(model.parameters(), lr=0.001),
    steps=1_000_000_000,
    batch_size=16,
    checkpoint={"every_steps": 1000},
    wait=False,
)
print(run.name, flush=True)
os._exit(0)
"""
"""Begins a run that lasts until it is cancelled, and leaves without a word to the server."""


@pytest.fixture
def volume(engine: docker.DockerClient) -> Iterator[Volume]:
    """A volume for the state of a server."""
    volume = engine.volumes.create(f"gradwire-test-{uuid4().hex[:8]}")
    yield volume
    volume.remove(force=True)


def write_tokens(folder: Path, **tokens: str) -> None:
    """Writes a tokens file: tenants and what they show."""
    entries = [TokenEntry.of(token, tenant, Role.USER, None) for tenant, token in tokens.items()]
    (folder / "tokens").write_text("".join(f"{entry.line()}\n" for entry in entries))


def use_up_memory() -> None:
    """Keeps more and more tensors, 64 MiB each, on the server."""
    held = []
    for _ in range(100):
        held.append(gradwire.ones(16 * MEBIBYTE))
        held[-1][0].item()


@contextmanager
def readable(folder: Path) -> Iterator[dict[str, str]]:
    """Lets any user id read a folder of files; yields it as a volume of a container."""
    folder.chmod(0o755)
    for parent in (folder.parent, folder.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    for file in folder.iterdir():
        file.chmod(0o644)
    yield {str(folder): "/etc/gradwire"}


def test_the_sdk_outside_trains_the_digits_without_torch(server: Container, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / "examples" / "digits.py")],
        cwd=tmp_path,
        env={**os.environ, "GRADWIRE_ADDRESS": published(server), "GRADWIRE_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert len(accuracies(finished.stdout)) == 2
    assert min(accuracies(finished.stdout)) >= 95


def test_tls_tokens_and_the_page_under_a_user_id_that_the_image_does_not_know(
    image: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "files")
    authority.issue("server")
    write_tokens(tmp_path / "files", anna="gw_of-anna", bert="gw_of-bert")
    settings = {
        "GRADWIRE_TOKENS_FILE": "/etc/gradwire/tokens",
        "GRADWIRE_TLS_CERTIFICATE_FILE": "/etc/gradwire/server.pem",
        "GRADWIRE_TLS_KEY_FILE": "/etc/gradwire/server.key",
        "GRADWIRE_PAGE_ADDRESS": "0.0.0.0:8080",
    }
    with (
        readable(tmp_path / "files") as volumes,
        run_server(image, env=settings, volumes=volumes, user=STRANGER) as server,
    ):
        wait_until_serving(server)
        how: dict[str, Any] = {
            "address": f"grpcs://{published(server)}",
            "ca_file": authority.file,
        }
        with (
            gradwire.connect(**how, token="gw_of-anna") as hers,
            gradwire.connect(**how, token="gw_of-bert"),
        ):
            assert datasets.upload("his", np.ones(3)).num_samples == 3
            assert [each.name for each in datasets.list()] == ["his"]
            push_session(hers)
            assert gradwire.ones(3).sum().item() == 3
            assert datasets.list() == []
        with pytest.raises(AuthenticationError):
            gradwire.connect(**how, token="gw_of-nobody")
        trusting = ssl.create_default_context(cafile=str(authority.file))
        page = f"https://{published(server, PAGE_PORT)}/"
        with urlopen(page, context=trusting, timeout=60) as response:
            assert b"<title>gradwire</title>" in response.read()
        # Steps are compiled in /tmp, where this user may write and nobody has a name.
        compiled = server.exec_run(["python", "-c", COMPILE])
        assert (compiled.exit_code, compiled.output) == (0, b"1000.0\n")
        assert (
            server.exec_run(["gradwire", "health", "--address", "127.0.0.1:50052"]).exit_code == 0
        )


def test_state_in_a_volume_survives_a_kill_and_a_new_container(image: str, volume: Volume) -> None:
    state = {volume.name: "/var/lib/gradwire"}
    samples = np.arange(6, dtype=np.float32).reshape(3, 2)
    # As a pod of a StatefulSet, the new container has the name of the old one, and so knows at once
    # that the process is gone; a server elsewhere would wait for its sign of life to be old.
    name = "gradwire-0"
    with run_server(image, volumes=state, hostname=name) as server:
        wait_until_serving(server)
        with gradwire.connect(published(server), token=TOKEN):
            datasets.upload("kept", samples)
        how: dict[str, Any] = {"address": published(server), "token": TOKEN}
        begun = subprocess.run(
            [sys.executable, "-c", BEGIN_RUN],
            env={
                **os.environ,
                "GRADWIRE_ADDRESS": how["address"],
                "GRADWIRE_TOKEN": TOKEN,
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        run = gradwire.runs.attach(begun.stdout.strip(), **how)
        wait_until(lambda: run.refresh().num_steps >= 5000, 60, "some steps and checkpoints")
        assert run.state == "RUNNING"
        server.kill()

    with run_server(image, volumes=state, hostname=name) as server:
        wait_until_serving(server)
        with gradwire.connect(published(server), token=TOKEN):
            found = datasets.get("kept")
            assert found.num_samples == 3
            # What is there already is not sent again.
            assert datasets.upload("kept", samples).sha256 == found.sha256
        how = {"address": published(server), "token": TOKEN}
        wait_until(
            lambda: run.name in [each.name for each in gradwire.runs.list(**how)],
            60,
            "the run goes on",
        )
        again = gradwire.runs.attach(run.name, **how)
        seen = run.num_steps
        wait_until(lambda: again.refresh().num_steps > seen, 60, "the run takes further steps")
        again.cancel()
        again.wait(progress=False)
        assert again.state == "CANCELLED"
        assert [int(step) for step in again.history["step"]] == list(range(1, again.num_steps + 1))
        assert again.checkpoints


def test_a_stop_lets_calls_in_flight_finish(image: str) -> None:
    caller = (("authorization", f"Bearer {TOKEN}"),)
    sizes = (1, *[2048] * 6, 1)
    with run_server(image) as server:
        wait_until_serving(server)
        with connect(server) as channel:
            stubs = Stubs(channel)
            model = stubs.models.CreateModel(
                models_pb2.CreateModelRequest(
                    module=models_pb2.ModuleSpec(
                        type="torch.nn.Sequential",
                        children=[
                            models_pb2.ChildModule(name=str(number), module=linear(*pair))
                            for number, pair in enumerate(pairwise(sizes))
                        ],
                    )
                ),
                metadata=caller,
                timeout=60,
            ).model
            inputs = [tensor(np.ones((4096, 1), dtype=np.float32))]
            forward = stubs.models.Forward.future(
                models_pb2.ForwardRequest(name=model.name, inputs=inputs),
                metadata=caller,
                timeout=120,
            )
            # Calls on one connection are taken up in their order.
            stubs.server.GetServerInfo(
                server_pb2.GetServerInfoRequest(), metadata=caller, timeout=60
            )
            server.stop(timeout=100)
            output = forward.result().output

        assert list(output.value.tensor.shape) == [4096, 1]
        assert server.wait(timeout=60)["StatusCode"] == 0
        assert b'"calls_in_flight": 1, "event": "stopping"' in server.logs()


def test_a_tenant_who_uses_up_the_memory_of_the_container_ends_the_own_worker_alone(
    image: str, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    write_tokens(tmp_path / "files", greedy="gw_of-greedy", other="gw_of-other")
    settings = {"GRADWIRE_TOKENS_FILE": "/etc/gradwire/tokens", "GRADWIRE_WORKERS": "2"}
    limit = {"mem_limit": 1200 * MEBIBYTE, "memswap_limit": 1200 * MEBIBYTE}
    with (
        readable(tmp_path / "files") as volumes,
        run_server(image, env=settings, volumes=volumes, **limit) as server,
    ):
        wait_until_serving(server)
        # Two workers take a session each once both are ready.
        wait_until(lambda: server.logs().count(b'"event": "worker ready"') == 2, 60, "both workers")
        with gradwire.connect(published(server), token="gw_of-other") as other:
            kept = gradwire.ones(3)
            assert kept.sum().item() == 3
            with (
                gradwire.connect(published(server), token="gw_of-greedy"),
                pytest.raises(SessionLostError),
            ):
                use_up_memory()
            push_session(other)
            assert kept.sum().item() == 3
        wait_until(
            lambda: server.logs().count(b'"event": "worker ready"') == 3, 60, "the new worker"
        )
        with gradwire.connect(published(server), token="gw_of-greedy"):
            assert gradwire.ones(3).sum().item() == 3
        server.reload()
        assert server.attrs["State"]["Status"] == "running"
        assert server.attrs["RestartCount"] == 0
