"""Answers that are lost on the way: what was asked is done once, and the answer comes again."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

import gradwire
from gradwire import nn, optim
from gradwire.v1 import models_pb2, models_pb2_grpc, values_pb2
from tests.proxy import Proxy

TIMEOUT_SECONDS = 30


@pytest.fixture
def proxy(tmp_path: Path, address: str) -> Iterator[Proxy]:
    with Proxy(tmp_path / "proxy.sock", address) as proxy:
        yield proxy


def lose_next_answer(proxy: Proxy, address: str, session: str) -> threading.Thread:
    """Loses the answer to what is sent next, and cuts the connection once it was carried out."""
    proxy.swallow()

    def cut_when_done() -> None:
        assert proxy.swallowed.wait(TIMEOUT_SECONDS)
        with grpc.insecure_channel(address) as channel:
            models: Any = models_pb2_grpc.ModelServiceStub(channel)
            # A session's calls are in order: this one is answered after the lost one.
            models.ListModels(models_pb2.ListModelsRequest(name=session))
        proxy.cut()

    thread = threading.Thread(target=cut_when_done)
    thread.start()
    return thread


def test_a_step_of_the_sdk_whose_answer_is_lost_is_taken_once(proxy: Proxy, address: str) -> None:
    with gradwire.connect(proxy.address) as session:
        gradwire.manual_seed(0)
        model: Any = nn.Linear(3, 1)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        model(gradwire.ones(2, 3)).sum().backward()
        session.flush()
        losing = lose_next_answer(proxy, address, session.name)
        optimizer.step()
        weights = model.weight.detach().numpy()
        losing.join()
    torch.manual_seed(0)
    expected = torch.nn.Linear(3, 1)
    local = torch.optim.SGD(expected.parameters(), lr=0.1)
    expected(torch.ones(2, 3)).sum().backward()
    local.step()
    assert torch.equal(torch.from_numpy(weights), expected.weight.detach())
    assert proxy.num_connections == 2


def test_messages_in_flight_when_the_connection_breaks_run_once_and_in_order(
    proxy: Proxy, address: str
) -> None:
    with gradwire.connect(proxy.address) as session:
        counter = gradwire.zeros(1)
        session.flush()
        losing = lose_next_answer(proxy, address, session.name)
        for number in range(300):
            counter.mul_(1.0).add_(1.0)
            if number % 50 == 0:
                session.cut()
        assert counter.item() == 300.0
        losing.join()


def test_a_step_by_request_id_whose_answer_is_lost_is_taken_once(
    proxy: Proxy, address: str
) -> None:
    with grpc.insecure_channel(proxy.address) as channel:
        models: Any = models_pb2_grpc.ModelServiceStub(channel)
        linear = models_pb2.ModuleSpec(
            type="torch.nn.Linear",
            args=[values_pb2.Value(int_value=size) for size in (1, 1)],
        )
        optimizer = models_pb2.OptimizerSpec(type="torch.optim.SGD")
        created = models.CreateModel(
            models_pb2.CreateModelRequest(module=linear, optimizer=optimizer)
        ).model
        gradient = models_pb2.NamedTensor(
            name="weight",
            tensor=values_pb2.Tensor(
                dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[1, 1], data=bytes(4)
            ),
        )
        models.SetTensors(models_pb2.SetTensorsRequest(name=created.name, gradients=[gradient]))
        losing = lose_next_answer(proxy, address, created.name.partition("/models/")[0])
        request = models_pb2.StepRequest(name=created.name, request_id="a-step")
        with pytest.raises(grpc.RpcError) as caught:
            models.Step(request, timeout=TIMEOUT_SECONDS)
        losing.join()
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert models.Step(request, wait_for_ready=True).num_steps == 1
        described = models.GetModel(models_pb2.GetModelRequest(name=created.name)).model
        assert described.num_steps == 1
