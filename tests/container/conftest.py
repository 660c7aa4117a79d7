"""A Docker engine, the image built from this tree, and a server in it."""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import grpc
import pytest
from docker.errors import DockerException
from docker.models.containers import Container
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

ROOT = Path(__file__).resolve().parents[2]
TAG = "gradwire:test"
PORT = "50051/tcp"
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
def run_server(image: str) -> Iterator[Container]:
    """Runs a server in a container with the few rights that deploy/compose.yaml gives it."""
    # The context removes the container; testcontainers' reaper would be one more image to fetch.
    testcontainers_config.ryuk_disabled = True
    started = DockerContainer(
        image,
        env={"GRADWIRE_TOKEN": TOKEN},
        read_only=True,
        shm_size="1g",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
    )
    started.with_tmpfs_mount("/tmp")
    started.with_tmpfs_mount("/var/lib/gradwire")
    started.ports[PORT] = ("127.0.0.1", 0)  # type: ignore[assignment] # docker takes the interface
    with started:
        container = started.get_wrapped_container()
        try:
            yield container
        finally:
            print(container.logs().decode())
    started.get_docker_client().client.close()


@contextmanager
def connect(server: Container) -> Iterator[grpc.Channel]:
    """Connects through the port that is published on this machine."""
    server.reload()
    (published, *_) = server.ports[PORT] or []
    with grpc.insecure_channel(f"127.0.0.1:{published['HostPort']}") as channel:
        yield channel


@pytest.fixture(scope="session")
def server(image: str) -> Iterator[Container]:
    """A server that the tests share."""
    with run_server(image) as container:
        yield container


@pytest.fixture
def channel(server: Container) -> Iterator[grpc.Channel]:
    """A channel to the shared server."""
    with connect(server) as channel:
        yield channel
