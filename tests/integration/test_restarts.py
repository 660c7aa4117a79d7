"""A server that is stopped and started again: programs notice nothing but the wait."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest

import gradwire
from gradwire import nn, optim
from gradwire.current import push_session
from gradwire.errors import SessionLostError
from gradwire.transport.channel import open_channel
from gradwire.v1 import models_pb2, sessions_pb2, values_pb2
from tests.processes import ServerProcess, Stubs
from tests.proxy import Proxy

STEPS_BEFORE = 20
STEPS_AFTER = 20
RNG = np.random.default_rng(0)
SMALL = RNG.random((16, 8), np.float32)
LARGE = RNG.random((256, 256), np.float32)


class Restarting:
    """A server that is stopped and started again on the same address and storage.

    Args:
        folder: Where it keeps everything.
        options: Its settings.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self._options = {"threads": 1, **options}
        self.server = ServerProcess(folder, **self._options)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()
        self.server.stop()

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def is_under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def restart(self) -> None:
        self.server.stop()
        self.server = ServerProcess(self._folder, **self._options)
        self.server.__enter__()

    def begin_restart(self) -> None:
        self._thread = threading.Thread(target=self.restart)
        self._thread.start()


class Loop:
    """A training loop of a script, in a session of its own; each call takes a step."""

    def __init__(self, address: str, data: Any, step: "Callable[[Loop], None]") -> None:
        self.session = gradwire.connect(address, timeout_seconds=60)
        self.data = data
        self.step = step
        self.num_steps = 0
        self.losses: list[float] = []
        gradwire.manual_seed(0)
        self.model: Any = nn.Sequential(
            nn.Linear(data.shape[1], 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1)
        )
        parameters = self.model.parameters()
        self.optimizer: Any = (
            optim.LBFGS(parameters, lr=0.1, max_iter=3)
            if step is Loop.by_closure
            else optim.Adam(parameters, lr=0.01)
        )

    def __call__(self) -> None:
        push_session(self.session)
        self.num_steps += 1
        self.step(self)

    def forward(self) -> Any:
        # A new array each time, so that it travels.
        inputs = gradwire.tensor(self.data + np.float32(self.num_steps % 7))
        return nn.functional.mse_loss(self.model(inputs), inputs.mean(1, keepdim=True))

    def without_a_look(self) -> None:
        self.optimizer.zero_grad()
        self.forward().backward()
        self.optimizer.step()

    def looking_after(self) -> None:
        self.optimizer.zero_grad()
        loss = self.forward()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())

    def looking_before(self) -> None:
        loss = self.forward()
        self.losses.append(loss.item())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def by_closure(self) -> None:
        def closure() -> Any:
            self.optimizer.zero_grad()
            loss = self.forward()
            loss.backward()
            return loss

        self.losses.append(self.optimizer.step(closure).item())

    def end(self) -> list[Any]:
        push_session(self.session)
        weights = [value.numpy() for value in self.model.state_dict().values()]
        self.session.close()
        return [*weights, self.losses]


KINDS = [
    (SMALL, Loop.without_a_look),
    (SMALL, Loop.looking_before),
    (SMALL, Loop.by_closure),
    (LARGE, Loop.without_a_look),
    (LARGE, Loop.looking_after),
]


def test_loops_that_train_go_on_with_the_next_server(tmp_path: Path) -> None:
    with Restarting(tmp_path) as restarting:
        with gradwire.connect(restarting.address, timeout_seconds=60) as resting:
            x = gradwire.arange(6.0)
            resting.flush()
            loops = [Loop(restarting.address, data, step) for data, step in KINDS]
            for _ in range(STEPS_BEFORE):
                for loop in loops:
                    loop()
            restarting.begin_restart()
            while restarting.is_under_way:
                for loop in loops:
                    loop()
            for _ in range(STEPS_AFTER):
                for loop in loops:
                    loop()
            ends = [loop.end() for loop in loops]
            assert x.sum().item() == 15.0
        for loop, end, (data, step) in zip(loops, ends, KINDS, strict=True):
            undisturbed = Loop(restarting.address, data, step)
            for _ in range(loop.num_steps):
                undisturbed()
            assert all(map(np.array_equal, end, undisturbed.end())), (loop.num_steps, step)


def test_a_session_whose_server_was_killed_is_lost(tmp_path: Path) -> None:
    with Restarting(tmp_path) as restarting:
        session = gradwire.connect(restarting.address, timeout_seconds=60)
        x = gradwire.tensor(LARGE)
        session.flush()
        restarting.server.kill()
        restarting.restart()
        with pytest.raises(SessionLostError, match=session.name) as caught:
            x.sum().item()
        assert caught.value.reason == "SESSION_LOST"
        session.close()


def test_what_was_answered_in_vain_is_not_done_again_by_the_next_server(tmp_path: Path) -> None:
    linear = models_pb2.ModuleSpec(
        type="torch.nn.Linear", args=[values_pb2.Value(int_value=size) for size in (1, 1)]
    )
    with Restarting(tmp_path) as restarting, ExitStack() as stack:
        stubs = Stubs(stack.enter_context(open_channel(restarting.address)))
        create = models_pb2.CreateModelRequest(
            module=linear, optimizer=models_pb2.OptimizerSpec(type="torch.optim.SGD")
        )
        model = stubs.models.CreateModel(create).model
        name = model.name.partition("/models/")[0]
        gradient = values_pb2.Tensor(
            dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[1, 1], data=bytes(4)
        )
        named = models_pb2.NamedTensor(name="weight", tensor=gradient)
        stubs.models.SetTensors(models_pb2.SetTensorsRequest(name=model.name, gradients=[named]))
        step = models_pb2.StepRequest(name=model.name, request_id="a step")
        assert stubs.models.Step(step).num_steps == 1
        failing = sessions_pb2.Command(read_tensor=sessions_pb2.ReadTensor(handle=99, size_bytes=1))
        messages = [
            sessions_pb2.ExecuteRequest(name=name, seq=1),
            sessions_pb2.ExecuteRequest(name=name, seq=2, commands=[failing]),
        ]
        answers = list(stubs.sessions.Execute(iter(messages)))

        restarting.restart()
        stubs = Stubs(stack.enter_context(open_channel(restarting.address)))
        assert stubs.models.Step(step, wait_for_ready=True).num_steps == 1
        assert list(stubs.sessions.Execute(iter(messages))) == answers
        with pytest.raises(grpc.RpcError) as caught:
            stubs.models.Step(models_pb2.StepRequest(name=model.name + "x", request_id="a step"))
        assert caught.value.code() is grpc.StatusCode.ABORTED
        again = models_pb2.StepRequest(name=model.name, request_id="another")
        assert stubs.models.Step(again).num_steps == 2


def test_a_step_whose_answer_was_lost_as_the_server_stopped_is_taken_once(tmp_path: Path) -> None:
    with (
        Restarting(tmp_path) as restarting,
        Proxy(tmp_path / "proxy.sock", restarting.address) as proxy,
        gradwire.connect(proxy.address, timeout_seconds=60) as session,
    ):
        counter = gradwire.zeros(1)
        session.flush()
        proxy.swallow()
        counter.add_(1.0)
        session.cut()
        session._outbox.send()
        assert proxy.swallowed.wait(30)
        restarting.restart()
        proxy.cut()
        assert counter.add_(1.0).item() == 2.0
