"""A server that is stopped and started again: programs notice nothing but the wait."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import gradwire
from gradwire import nn, optim
from gradwire.current import push_session
from gradwire.errors import SessionLostError
from tests.processes import ServerProcess

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
