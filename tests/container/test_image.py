"""The image: it builds from the tree, serves the verbs, and is modest about its rights."""

import tomllib

import docker
import grpc
import numpy as np
import pytest
from docker.models.containers import Container

from gradwire.v1 import models_pb2 as models
from gradwire.v1 import models_pb2_grpc, runs_pb2_grpc, server_pb2_grpc
from gradwire.v1 import runs_pb2 as runs
from gradwire.v1 import server_pb2 as info
from gradwire.v1 import values_pb2 as values
from tests.container.conftest import (
    ROOT,
    TOKEN,
    linear,
    run_server,
    tensor,
    wait_until,
    wait_until_serving,
)

# The first test to run builds the image.
pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

CALLER = (("authorization", f"Bearer {TOKEN}"),)


def scalar(value: values.Value) -> float:
    """Returns the element of a float32 scalar tensor."""
    return float(np.frombuffer(value.tensor.data, dtype="<f4")[0])


def test_the_server_says_what_it_is(channel: grpc.Channel) -> None:
    response = server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
        info.GetServerInfoRequest(), timeout=30, metadata=CALLER
    )

    assert response.server_version
    assert response.torch_version
    assert [worker.state for worker in response.workers] == [info.WORKER_STATE_READY]


def test_a_call_without_the_token_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
            info.GetServerInfoRequest(), timeout=30
        )

    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_six_verbs_train_a_model(channel: grpc.Channel) -> None:
    verbs = models_pb2_grpc.ModelServiceStub(channel)
    inputs = np.linspace(-1, 1, 64, dtype=np.float32).reshape(64, 1)
    targets = inputs**2
    criterion = models.LossSpec(catalog=models.CatalogLoss(type="torch.nn.MSELoss"))
    model = verbs.CreateModel(
        models.CreateModelRequest(
            module=models.ModuleSpec(
                type="torch.nn.Sequential",
                children=[
                    models.ChildModule(name="0", module=linear(1, 16)),
                    models.ChildModule(name="1", module=models.ModuleSpec(type="torch.nn.Tanh")),
                    models.ChildModule(name="2", module=linear(16, 1)),
                ],
            ),
            optimizer=models.OptimizerSpec(
                type="torch.optim.Adam", kwargs={"lr": values.Value(float_value=0.05)}
            ),
            seed=0,
        ),
        timeout=60,
        metadata=CALLER,
    ).model

    losses = []
    for _ in range(20):
        output = verbs.Forward(
            models.ForwardRequest(name=model.name, inputs=[tensor(inputs)]),
            timeout=60,
            metadata=CALLER,
        ).output
        loss = verbs.ComputeLoss(
            models.ComputeLossRequest(
                name=model.name,
                loss=criterion,
                outputs=[values.Value(handle=output.handle)],
                targets=[tensor(targets)],
            ),
            timeout=60,
            metadata=CALLER,
        ).loss
        verbs.ZeroGrad(models.ZeroGradRequest(name=model.name), timeout=60, metadata=CALLER)
        verbs.Backward(
            models.BackwardRequest(name=model.name, handle=loss.handle),
            timeout=60,
            metadata=CALLER,
        )
        verbs.Step(models.StepRequest(name=model.name), timeout=60, metadata=CALLER)
        losses.append(scalar(loss.value))
    *_, last = runs_pb2_grpc.RunServiceStub(channel).Train(
        runs.TrainRequest(
            name=model.name,
            inputs=[tensor(inputs)],
            targets=[tensor(targets)],
            loss=criterion,
            epochs=50,
            batch_size=16,
        ),
        timeout=60,
        metadata=CALLER,
    )

    assert losses[-1] < losses[0]
    assert last.event.ended.num_steps == 200
    assert last.event.ended.mean_loss < losses[-1]


def test_the_server_has_no_rights_that_it_does_not_need(server: Container) -> None:
    user = server.exec_run(["id", "--user"]).output
    assert isinstance(user, bytes)
    written = server.exec_run(["touch", "/opt/gradwire/written"]).exit_code

    assert int(user) != 0
    assert written != 0


def test_the_health_check_of_the_image_passes(server: Container) -> None:
    def is_healthy() -> bool:
        server.reload()
        return bool(server.attrs["State"]["Health"]["Status"] == "healthy")

    wait_until(is_healthy, 60, "the engine reports the container as healthy")


def test_of_build_tools_there_is_only_the_compiler(server: Container) -> None:
    found = {
        tool: server.exec_run(["sh", "-c", f"command -v {tool}"]).exit_code == 0
        for tool in ("g++", "make", "cmake", "git", "curl", "protoc")
    }
    assert [tool for tool, there in found.items() if there] == ["g++"]
    # The base image's pip is not that of the server's environment.
    assert server.exec_run(["python", "-m", "pip"]).exit_code != 0


def test_the_image_says_what_it_is(engine: docker.DockerClient, image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = engine.images.get(image).labels

    for label, value in {
        "title": project["name"],
        "version": project["version"],
        "licenses": project["license"],
        "description": "PyTorch training as a gRPC service",
    }.items():
        assert labels[f"org.opencontainers.image.{label}"] == value
    assert labels["org.opencontainers.image.revision"]


def test_the_server_does_not_start_open_to_everybody(
    engine: docker.DockerClient, image: str
) -> None:
    container = engine.containers.run(image, detach=True)
    try:
        status = container.wait(timeout=60)["StatusCode"]
        log = container.logs().decode()
    finally:
        container.remove(force=True, v=True)

    assert status != 0
    assert "GRADWIRE_TOKEN" in log


def test_the_server_ends_by_itself_when_it_is_told_to_stop(image: str) -> None:
    with run_server(image) as server:
        wait_until_serving(server)
        server.stop(timeout=30)
        status = server.wait(timeout=30)["StatusCode"]

    assert status == 0
