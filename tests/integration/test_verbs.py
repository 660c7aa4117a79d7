"""The six verbs as plain calls on a real server, and what they answer when something is wrong."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gradwire.recorder.values import array_of_tensor, tensor_message
from gradwire.v1 import (
    models_pb2,
    models_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    values_pb2,
)
from tests.processes import ServerProcess

Value = values_pb2.Value
MSE = models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type="torch.nn.MSELoss"))


class Stubs:
    """All services of a server."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.sessions: Any = sessions_pb2_grpc.SessionServiceStub(self.channel)
        self.models: Any = models_pb2_grpc.ModelServiceStub(self.channel)
        self.runs: Any = runs_pb2_grpc.RunServiceStub(self.channel)
        self.server: Any = server_pb2_grpc.ServerServiceStub(self.channel)


@pytest.fixture
def stubs(address: str) -> Iterator[Stubs]:
    stubs = Stubs(address)
    with stubs.channel:
        yield stubs


def integer(value: int) -> Value:
    return Value(int_value=value)


def number(value: float) -> Value:
    return Value(float_value=value)


def tensor(value: torch.Tensor, *, requires_grad: bool = False) -> Value:
    return Value(tensor=tensor_message(value.detach().numpy(), requires_grad=requires_grad))


def local(value: Value) -> torch.Tensor:
    return torch.from_numpy(array_of_tensor(value.tensor))


def module(name: str, *args: int) -> models_pb2.ModuleSpec:
    return models_pb2.ModuleSpec(type=f"torch.nn.{name}", args=[integer(arg) for arg in args])


def net(**fields: Any) -> models_pb2.CreateModelRequest:
    layers = [module("Linear", 3, 5), module("ReLU"), module("Linear", 5, 1)]
    children = [
        models_pb2.ChildModule(name=str(index), module=layer) for index, layer in enumerate(layers)
    ]
    optimizer = models_pb2.OptimizerSpec(
        type="torch.optim.SGD", kwargs={"lr": number(0.1), "momentum": number(0.9)}
    )
    return models_pb2.CreateModelRequest(
        **{
            "module": models_pb2.ModuleSpec(type="torch.nn.Sequential", children=children),
            "optimizer": optimizer,
            "seed": 7,
            **fields,
        }
    )


def local_net() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 3, generator=generator), torch.randn(10, 1, generator=generator)


@pytest.fixture
def model(stubs: Stubs) -> Iterator[str]:
    created: str = stubs.models.CreateModel(net()).model.name
    yield created
    session = created.partition("/models/")[0]
    stubs.sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=session))


def loss_of(stubs: Stubs, model: str) -> models_pb2.Output:
    inputs, targets = data()
    output = stubs.models.Forward(models_pb2.ForwardRequest(name=model, inputs=[tensor(inputs)]))
    request = models_pb2.ComputeLossRequest(
        name=model,
        loss=MSE,
        outputs=[Value(handle=output.output.handle)],
        targets=[tensor(targets)],
    )
    loss: models_pb2.Output = stubs.models.ComputeLoss(request).loss
    return loss


def parameters(stubs: Stubs, model: str) -> dict[str, torch.Tensor]:
    fetched = stubs.models.FetchTensors(models_pb2.FetchTensorsRequest(name=model))
    return {
        entry.name: torch.from_numpy(array_of_tensor(entry.tensor)) for entry in fetched.parameters
    }


def assert_equal_weights(stubs: Stubs, model: str, expected: torch.nn.Module) -> None:
    found = parameters(stubs, model)
    for name, parameter in expected.named_parameters():
        assert torch.equal(found[name], parameter.detach()), name


def fails(call: Any, request: Any) -> tuple[grpc.StatusCode, str, str]:
    """Returns code, reason and message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    error: Any = caught.value
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "gradwire"
    return error.code(), info.reason, str(status.message)


def test_a_loop_of_verbs_trains_as_local_torch_does_bit_for_bit(stubs: Stubs, model: str) -> None:
    expected, optimizer = local_net()
    assert_equal_weights(stubs, model, expected)
    inputs, targets = data()
    for _ in range(5):
        loss = loss_of(stubs, model)
        wanted = torch.nn.functional.mse_loss(expected(inputs), targets)
        assert torch.equal(local(loss.value), wanted.detach())
        stubs.models.ZeroGrad(models_pb2.ZeroGradRequest(name=model))
        stubs.models.Backward(models_pb2.BackwardRequest(name=model, handle=loss.handle))
        stubs.models.Step(models_pb2.StepRequest(name=model))
        optimizer.zero_grad()
        wanted.backward()
        optimizer.step()
    assert_equal_weights(stubs, model, expected)


def test_train_equals_a_loop_over_a_data_loader_bit_for_bit(stubs: Stubs, model: str) -> None:
    inputs, targets = data()
    request = runs_pb2.TrainRequest(
        name=model,
        inputs=[tensor(inputs)],
        targets=[tensor(targets)],
        loss=MSE,
        epochs=3,
        batch_size=4,
        shuffle=True,
        seed=3,
        exact=True,
    )
    events = [response.event for response in stubs.runs.Train(request)]
    expected, optimizer = local_net()
    torch.manual_seed(3)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, targets), batch_size=4, shuffle=True
    )
    losses = []
    for _ in range(3):
        for batch, wanted in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(expected(batch), wanted)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert [loss for event in events for loss in event.progress.losses] == losses
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert events[-1].ended.num_steps == 9
    assert_equal_weights(stubs, model, expected)


def test_a_schedule_may_be_a_table_of_factors(stubs: Stubs, model: str) -> None:
    inputs, targets = data()
    factors = [1.0, 0.5, 0.25, 0.1]
    table = Value(list=values_pb2.ValueList(values=map(number, factors)))
    request = runs_pb2.TrainRequest(
        name=model,
        inputs=[tensor(inputs)],
        targets=[tensor(targets)],
        loss=MSE,
        steps=3,
        scheduler=runs_pb2.Scheduler(
            type="torch.optim.lr_scheduler.LambdaLR", kwargs={"lr_lambda": table}
        ),
    )
    events = [response.event for response in stubs.runs.Train(request)]
    rates = [rate for event in events for rate in event.progress.learning_rates]
    assert rates == [0.1 * factor for factor in factors[:3]]
    request.scheduler.kwargs["lr_lambda"].CopyFrom(number(0.5))
    with pytest.raises(grpc.RpcError, match="is not a list of the factors for 0, 1, 2 and so on"):
        list(stubs.runs.Train(request))


def test_forward_returns_intermediate_values_and_gradients_of_inputs(
    stubs: Stubs, model: str
) -> None:
    inputs, targets = data()
    request = models_pb2.ForwardRequest(
        name=model, inputs=[tensor(inputs, requires_grad=True)], capture=["0", "1"]
    )
    output = stubs.models.Forward(request)
    expected, _ = local_net()
    inputs.requires_grad_()
    hidden = expected[0](inputs)  # type: ignore[index]
    assert torch.equal(local(output.captured["0"].value), hidden.detach())
    torch.nn.functional.mse_loss(expected(inputs), targets).backward()
    loss = stubs.models.ComputeLoss(
        models_pb2.ComputeLossRequest(
            name=model,
            loss=MSE,
            outputs=[Value(handle=output.output.handle)],
            targets=[tensor(targets)],
        )
    ).loss
    gradients = stubs.models.Backward(
        models_pb2.BackwardRequest(
            name=model, handle=loss.handle, gradients=list(output.input_handles)
        )
    ).gradients
    assert inputs.grad is not None
    assert torch.equal(local(gradients[0]), inputs.grad)


def test_lbfgs_evaluates_its_closure_on_the_server(stubs: Stubs) -> None:
    optimizer = models_pb2.OptimizerSpec(type="torch.optim.LBFGS", kwargs={"lr": number(0.5)})
    model = stubs.models.CreateModel(net(optimizer=optimizer)).model.name
    inputs, targets = data()
    closure = models_pb2.Closure(inputs=[tensor(inputs)], targets=[tensor(targets)], loss=MSE)
    answer = stubs.models.Step(models_pb2.StepRequest(name=model, closure=closure))
    expected, _ = local_net()
    lbfgs = torch.optim.LBFGS(expected.parameters(), lr=0.5)

    def evaluate() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = torch.nn.functional.mse_loss(expected(inputs), targets)
        loss.backward()
        return loss

    assert answer.loss == lbfgs.step(evaluate).item()
    assert_equal_weights(stubs, model, expected)


def test_a_step_that_is_sent_again_is_taken_once(stubs: Stubs, model: str) -> None:
    loss = loss_of(stubs, model)
    stubs.models.Backward(models_pb2.BackwardRequest(name=model, handle=loss.handle))
    request = models_pb2.StepRequest(name=model, request_id=uuid.uuid4().hex)
    assert stubs.models.Step(request).num_steps == 1
    before = parameters(stubs, model)
    assert stubs.models.Step(request).num_steps == 1
    after = parameters(stubs, model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    request.clip_grad_norm = 1.0
    assert fails(stubs.models.Step, request)[:2] == (grpc.StatusCode.ABORTED, "REQUEST_CHANGED")


def test_backward_twice_is_refused_and_the_session_goes_on(stubs: Stubs, model: str) -> None:
    request = models_pb2.BackwardRequest(name=model, handle=loss_of(stubs, model).handle)
    stubs.models.Backward(request)
    code, reason, message = fails(stubs.models.Backward, request)
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "GRAPH_FREED")
    assert "second time" in message
    assert loss_of(stubs, model).handle


def test_step_before_backward_is_refused(stubs: Stubs, model: str) -> None:
    code, reason, message = fails(stubs.models.Step, models_pb2.StepRequest(name=model))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_GRADIENT")
    assert "Backward" in message


def test_a_deleted_model_is_not_found(stubs: Stubs, model: str) -> None:
    stubs.models.DeleteModel(models_pb2.DeleteModelRequest(name=model))
    code, reason, _ = fails(stubs.models.Step, models_pb2.StepRequest(name=model))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_an_unknown_class_names_the_closest_ones(stubs: Stubs) -> None:
    code, reason, message = fails(stubs.models.CreateModel, net(module=module("Linaer", 3, 1)))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_NAME")
    assert "torch.nn.Linear" in message


def test_a_module_takes_a_function_of_the_catalog_by_name_and_no_other(stubs: Stubs) -> None:
    layer = module("TransformerEncoderLayer", 8, 2, 16)
    layer.kwargs["activation"].function = "torch.nn.functional.gelu"
    assert stubs.models.CreateModel(net(module=layer)).model.name
    for name in ("torch.load", "gradwire.getattr", "torch.nn.Linear", "os.system", ""):
        layer.kwargs["activation"].function = name
        code, reason, message = fails(stubs.models.CreateModel, net(module=layer))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_NAME")
        assert "kwargs['activation'].function" in message


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (np.zeros((2, 4), np.float32), "shapes cannot be multiplied (2x4 and 3x5)"),
        (np.zeros((2, 3), np.float64), "dtype"),
    ],
)
def test_a_wrong_shape_or_dtype_carries_torchs_message(
    stubs: Stubs, model: str, inputs: "np.ndarray[Any, Any]", text: str
) -> None:
    request = models_pb2.ForwardRequest(name=model, inputs=[Value(tensor=tensor_message(inputs))])
    code, reason, message = fails(stubs.models.Forward, request)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OPERATION_FAILED")
    assert text in message
    assert loss_of(stubs, model).handle


def test_a_layer_of_10_to_the_18_weights_is_refused_without_allocating(stubs: Stubs) -> None:
    request = net(module=module("Linear", 10**9, 10**9))
    code, reason, message = fails(stubs.models.CreateModel, request)
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert "max_session_bytes" in message


def test_a_failed_create_leaves_nothing_behind(stubs: Stubs, model: str) -> None:
    session = model.partition("/models/")[0]
    bad = models_pb2.OptimizerSpec(type="torch.optim.SGD", kwargs={"lr": number(-1)})
    assert fails(stubs.models.CreateModel, net(name=session, optimizer=bad))[1] == (
        "OPERATION_FAILED"
    )
    listed = stubs.models.ListModels(models_pb2.ListModelsRequest(name=session)).models
    assert [entry.name for entry in listed] == [model]


def test_set_tensors_sets_all_or_none(stubs: Stubs, model: str) -> None:
    good = models_pb2.NamedTensor(name="0.bias", tensor=tensor_message(np.ones(5, np.float32)))
    bad = models_pb2.NamedTensor(name="2.bias", tensor=tensor_message(np.ones(5, np.float32)))
    before = parameters(stubs, model)["0.bias"]
    request = models_pb2.SetTensorsRequest(name=model, parameters=[good, bad])
    assert fails(stubs.models.SetTensors, request)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert torch.equal(parameters(stubs, model)["0.bias"], before)
    stubs.models.SetTensors(models_pb2.SetTensorsRequest(name=model, parameters=[good]))
    assert torch.equal(parameters(stubs, model)["0.bias"], torch.ones(5))


def test_a_message_over_the_limit_is_refused_by_name(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, max_message_bytes=1 << 20) as server:
        stubs = Stubs(server.address)
        model = stubs.models.CreateModel(net()).model.name
        large = Value(tensor=tensor_message(np.zeros((1 << 17, 3), np.float32)))
        request = models_pb2.ForwardRequest(name=model, inputs=[large])
        code, reason, message = fails(stubs.models.Forward, request)
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert "max_message_bytes" in message
        assert loss_of(stubs, model).handle
        stubs.channel.close()


def test_everything_in_the_log_is_an_event_of_the_server(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, workers=2, log_format="json") as server:
        stubs = Stubs(server.address)
        assert loss_of(stubs, stubs.models.CreateModel(net()).model.name).handle
        stubs.channel.close()

    events = [json.loads(line)["event"] for line in server.log().splitlines()]
    assert events[0] == "listening"
    assert events.count("worker ready") == 2
    assert events[-1] == "stopped"


def test_a_killed_worker_loses_its_sessions_and_no_others(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, workers=2) as server:
        stubs = Stubs(server.address)
        first, second = (stubs.models.CreateModel(net()).model.name for _ in range(2))
        placed = stubs.sessions.GetSession(
            sessions_pb2.GetSessionRequest(name=first.partition("/models/")[0])
        ).session.worker
        workers = stubs.server.GetServerInfo(server_pb2.GetServerInfoRequest()).workers
        (pid,) = (worker.pid for worker in workers if worker.id == placed)
        os.kill(pid, signal.SIGKILL)
        request = models_pb2.GetModelRequest(name=first)
        code, reason, _ = fails_at_last(stubs.models.GetModel, request)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_LOST")
        assert loss_of(stubs, second).handle
        third = stubs.models.CreateModel(net()).model.name
        assert loss_of(stubs, third).handle
        stubs.channel.close()


def fails_at_last(call: Any, request: Any) -> tuple[grpc.StatusCode, str, str]:
    """As `fails`, for a call that may still be answered until the server notices."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            call(request)
        except grpc.RpcError:
            return fails(call, request)
    raise AssertionError("the call never failed")


def test_a_graph_of_aten_operators_runs_as_the_forward_of_a_module(stubs: Stubs) -> None:
    weight, x = torch.rand(2, 3), torch.rand(4, 3)
    program = values_pb2.Program(
        num_inputs=1,
        operations=[
            values_pb2.Operation(
                name="aten.linear.default", args=[Value(input=0), Value(member="weight")]
            ),
            values_pb2.Operation(name="aten.sym_size.int", args=[Value(input=0), integer(0)]),
            values_pb2.Operation(name="operator.floordiv", args=[Value(result=1), integer(2)]),
            values_pb2.Operation(
                name="aten.slice.Tensor",
                args=[Value(result=0), integer(0), integer(0), Value(result=2)],
            ),
        ],
        outputs=[Value(result=3)],
    )
    spec = models_pb2.ModuleSpec(
        type="torch.nn.Module",
        tensors=[models_pb2.ModuleTensor(name="weight", value=tensor(weight))],
        forward=program,
    )
    created = stubs.models.CreateModel(models_pb2.CreateModelRequest(module=spec)).model
    answer = stubs.models.Forward(models_pb2.ForwardRequest(name=created.name, inputs=[tensor(x)]))
    assert torch.equal(local(answer.output.value), torch.nn.functional.linear(x, weight)[:2])

    program.operations[2].name = "operator.attrgetter"
    spec.forward.CopyFrom(program)
    status, reason, text = fails(
        stubs.models.CreateModel, models_pb2.CreateModelRequest(module=spec)
    )
    assert (status, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_NAME")
    assert "operator.attrgetter" in text
