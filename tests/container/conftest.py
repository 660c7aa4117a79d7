"""A Docker engine, the image built from this tree, and a server in it."""

import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import grpc
import numpy as np
import pytest
from docker.errors import DockerException
from docker.models.containers import Container
from grpc_health.v1 import health_pb2, health_pb2_grpc
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from gradwire.v1 import models_pb2 as models
from gradwire.v1 import values_pb2 as values

ROOT = Path(__file__).resolve().parents[2]
TAG = "gradwire:test"
RPC_PORT = "50051/tcp"
HEALTH_PORT = "50052/tcp"
PAGE_PORT = "8080/tcp"
TOKEN = "a-token-for-the-test"


def why_unreachable() -> str | None:
    """Returns why no Docker engine answers, or none if one does."""
    reason = None
    with warnings.catch_warnings():
        # The client does not close its socket when it cannot connect.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env().close()
        except DockerException as error:
            reason = f"no Docker engine answers: {error}"
        gc.collect()
    return reason


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The Docker engine. Without one the tests skip, or fail where one must be there."""
    reason = why_unreachable()
    if reason and os.environ.get("GRADWIRE_REQUIRE_DOCKER") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> str:
    """The tag of the image, built from this tree; it stays, so that the next build is quick."""
    image = DockerImage(
        ROOT,
        tag=TAG,
        clean_up=False,
        forcerm=True,
        buildargs={"TORCH_INDEX_URL": os.environ.get("TORCH_INDEX_URL", "")},
    )
    image.build()
    image.get_docker_client().client.close()
    return TAG


@contextmanager
def run_server(
    image: str,
    *,
    env: Mapping[str, str] | None = None,
    volumes: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Container]:
    """Runs a server in a container with the few rights that deploy/compose gives it.

    Args:
        image: The image.
        env: Its settings; the token alone if none are given.
        volumes: Volumes by name, or folders of this machine, and where they are in the container.
        options: More of what a container can be given.
    """
    # The context removes the container; testcontainers' reaper would be one more image to fetch.
    testcontainers_config.ryuk_disabled = True
    started = DockerContainer(
        image,
        env=dict(env or {"GRADWIRE_TOKEN": TOKEN}),
        read_only=True,
        shm_size="1g",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        **options,
    )
    # Compiled steps are libraries below /tmp.
    started.with_tmpfs_mount("/tmp", "exec")
    for source, target in (volumes or {}).items():
        started.with_volume_mapping(source, target, "rw")
    for port in (RPC_PORT, HEALTH_PORT, PAGE_PORT):
        # docker takes the interface too
        started.ports[port] = ("127.0.0.1", 0)  # type: ignore[assignment]
    with started:
        container = started.get_wrapped_container()
        try:
            yield container
        finally:
            print(container.logs().decode())
    started.get_docker_client().client.close()


def published(server: Container, port: str = RPC_PORT) -> str:
    """Returns where a port of the container can be reached on this machine."""
    server.reload()
    (address, *_) = server.ports[port] or []
    return f"127.0.0.1:{address['HostPort']}"


@contextmanager
def connect(server: Container, port: str = RPC_PORT) -> Iterator[grpc.Channel]:
    """Connects through a port that is published on this machine."""
    with grpc.insecure_channel(published(server, port)) as channel:
        yield channel


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Waits for a condition that nothing announces."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds} s for: {what}")
        time.sleep(0.2)


def wait_until_serving(server: Container) -> None:
    """Waits until the server says that it serves."""
    with connect(server, HEALTH_PORT) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def is_serving() -> bool:
            response = health.Check(
                health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True
            )
            return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

        wait_until(is_serving, 60, "the server says that it serves")


def tensor(array: np.ndarray) -> values.Value:
    """Returns a float32 tensor by value."""
    little_endian = np.ascontiguousarray(array, dtype="<f4")
    return values.Value(
        tensor=values.Tensor(
            dtype=values.DATA_TYPE_FLOAT32,
            shape=little_endian.shape,
            data=little_endian.tobytes(),
        )
    )


def linear(num_inputs: int, num_outputs: int) -> models.ModuleSpec:
    """Returns a fully connected layer."""
    sizes = [values.Value(int_value=num_inputs), values.Value(int_value=num_outputs)]
    return models.ModuleSpec(type="torch.nn.Linear", args=sizes)


@pytest.fixture(scope="session")
def server(image: str) -> Iterator[Container]:
    """A server that the tests share."""
    with run_server(image) as container:
        wait_until_serving(container)
        yield container


@pytest.fixture
def channel(server: Container) -> Iterator[grpc.Channel]:
    """A channel to the shared server."""
    with connect(server) as channel:
        yield channel
