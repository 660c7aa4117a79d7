"""The image: it builds from the tree, serves the verbs, and is modest about its rights."""

import time
from collections.abc import Callable

import docker
import grpc
import numpy as np
import pytest
from docker.models.containers import Container
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gradwire.v1 import models_pb2 as models
from gradwire.v1 import models_pb2_grpc, runs_pb2_grpc, server_pb2_grpc
from gradwire.v1 import runs_pb2 as runs
from gradwire.v1 import server_pb2 as info
from gradwire.v1 import values_pb2 as values
from tests.container.conftest import TOKEN, connect, run_server

# The first test to run builds the image.
pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

CALLER = (("authorization", f"Bearer {TOKEN}"),)
LINEAR = "torch.nn.Linear"


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


def scalar(value: values.Value) -> float:
    """Returns the element of a float32 scalar tensor."""
    return float(np.frombuffer(value.tensor.data, dtype="<f4")[0])


def linear(num_inputs: int, num_outputs: int) -> models.ModuleSpec:
    """Returns a fully connected layer."""
    sizes = [values.Value(int_value=num_inputs), values.Value(int_value=num_outputs)]
    return models.ModuleSpec(type=LINEAR, args=sizes)


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Waits for a condition that nothing announces."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds} s for: {what}")
        time.sleep(0.2)


def wait_until_serving(channel: grpc.Channel) -> None:
    """Waits until the server says that it serves."""
    health = health_pb2_grpc.HealthStub(channel)

    def is_serving() -> bool:
        response = health.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    wait_until(is_serving, 60, "the server says that it serves")


@pytest.fixture
def ready(channel: grpc.Channel) -> grpc.Channel:
    """The channel, once the server serves."""
    wait_until_serving(channel)
    return channel


def test_the_server_says_what_it_is(ready: grpc.Channel) -> None:
    response = server_pb2_grpc.ServerServiceStub(ready).GetServerInfo(
        info.GetServerInfoRequest(), timeout=30, metadata=CALLER
    )

    assert response.server_version
    assert response.torch_version
    assert [worker.state for worker in response.workers] == [info.WORKER_STATE_READY]


def test_a_call_without_the_token_is_refused(ready: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        server_pb2_grpc.ServerServiceStub(ready).GetServerInfo(
            info.GetServerInfoRequest(), timeout=30
        )

    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_six_verbs_train_a_model(ready: grpc.Channel) -> None:
    verbs = models_pb2_grpc.ModelServiceStub(ready)
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
    *_, last = runs_pb2_grpc.RunServiceStub(ready).Train(
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
    assert last.ended.num_steps == 200
    assert last.ended.mean_loss < losses[-1]


def test_the_server_has_no_rights_that_it_does_not_need(
    ready: grpc.Channel, server: Container
) -> None:
    user = server.exec_run(["id", "--user"]).output
    assert isinstance(user, bytes)
    written = server.exec_run(["touch", "/opt/gradwire/written"]).exit_code

    assert int(user) != 0
    assert written != 0


def test_the_health_check_of_the_image_passes(ready: grpc.Channel, server: Container) -> None:
    def is_healthy() -> bool:
        server.reload()
        return bool(server.attrs["State"]["Health"]["Status"] == "healthy")

    wait_until(is_healthy, 60, "the engine reports the container as healthy")


def test_the_server_does_not_start_open_to_everybody(
    engine: docker.DockerClient, image: str
) -> None:
    container = engine.containers.run(image, detach=True)
    try:
        status = container.wait(timeout=60)["StatusCode"]
        log = container.logs().decode()
    finally:
        container.remove(force=True)

    assert status != 0
    assert "GRADWIRE_TOKEN" in log


def test_the_server_ends_by_itself_when_it_is_told_to_stop(image: str) -> None:
    with run_server(image) as server:
        with connect(server) as channel:
            wait_until_serving(channel)
        server.stop(timeout=30)
        status = server.wait(timeout=30)["StatusCode"]

    assert status == 0
