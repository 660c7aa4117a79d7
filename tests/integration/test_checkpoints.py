"""Checkpoints of interactive sessions: written, found, restored by another program, deleted."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire import nn, optim
from gradwire.errors import NotFoundError, RequestError
from gradwire.session import Session
from tests.processes import ServerProcess

HALF = 4
"""How many steps are taken before a checkpoint, and how many after it."""


class Net(nn.Module):
    """A class of the script's own, with much of what a module may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.activation = nn.functional.relu
        self.layers = nn.ModuleList([nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 1))])
        self.scale = nn.Parameter(gradwire.ones(1))
        self.register_buffer("calls", gradwire.zeros(1))

    def forward(self, inputs: Any) -> Any:
        self.calls += 1
        return self.layers[0](self.activation(self.norm(self.first(inputs)))) * self.scale


def begin() -> dict[str, Any]:
    """Returns everything that a training loop works with."""
    gradwire.manual_seed(0)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    multi_avg_fn = optim.swa_utils.get_ema_multi_avg_fn(0.9)
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2 * HALF),
        "scaler": gradwire.GradScaler("cpu"),
        "ema": optim.swa_utils.AveragedModel(model, multi_avg_fn=multi_avg_fn),
        "noise": gradwire.Generator().manual_seed(3),
    }


def go_on(objects: dict[str, Any]) -> list[bytes]:
    """Takes steps; returns every bit of what came of them."""
    model, optimizer, scaler = objects["model"], objects["optimizer"], objects["scaler"]
    losses = []
    for _ in range(HALF):
        inputs = gradwire.randn(16, 4, generator=objects["noise"])
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        objects["scheduler"].step()
        objects["ema"].update_parameters(model)
        losses.append(loss.detach())
    states = [model.state_dict().values(), objects["ema"].state_dict().values(), losses]
    return [tensor.numpy().tobytes() for state in states for tensor in state]


def test_training_goes_on_from_a_checkpoint_to_the_last_bit(session: Session) -> None:
    objects = begin()
    go_on(objects)
    checkpoint = session.checkpoint("halfway", **objects, epoch=1, history=[0.5, np.float32(2)])
    uninterrupted = go_on(objects)

    with gradwire.restore(checkpoint) as restored:
        assert restored.name != session.name
        assert (restored.objects["epoch"], restored.objects["history"]) == (1, [0.5, 2.0])
        assert go_on(restored.objects) == uninterrupted
    # What the first restored session did is not part of the checkpoint.
    with gradwire.restore(checkpoint.name.removeprefix("checkpoints/")) as restored:
        assert go_on(restored.objects) == uninterrupted


def test_what_is_shared_is_shared_after_it(session: Session) -> None:
    objects = begin()
    weights = [objects["model"].first.weight, objects["scheduler"]]
    with gradwire.restore(session.checkpoint(**objects, weights=weights)) as restored:
        found = restored.objects
        model, optimizer = found["model"], found["optimizer"]
        assert isinstance(model, Net)
        assert found["weights"] == [model.first.weight, found["scheduler"]]
        assert optimizer.param_groups[0]["params"] == list(model.parameters())
        assert found["scheduler"].optimizer is optimizer
        optimizer.param_groups[0]["lr"] = 0.5
        assert found["scheduler"].optimizer.param_groups[0]["lr"] == 0.5


def test_without_names_the_variables_of_the_caller_are_kept(session: Session) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    numbers = gradwire.arange(3)
    unrelated = [model, "not an object of the session"]
    with gradwire.restore(session.checkpoint()) as restored:
        assert set(restored.objects) == {"model", "optimizer", "numbers"}
        assert repr(restored.objects["model"]) == repr(unrelated[0])
        assert repr(restored.objects["optimizer"]) == repr(optimizer)
        assert restored.objects["numbers"].tolist() == numbers.tolist()


SCRIPT = """
import sys
import gradwire as torch

with torch.restore(sys.argv[1], address=sys.argv[2]) as session:
    model, total = session.objects["model"], session.objects["total"]
    print((model(torch.ones(2, 3)).sum() + total).item())
"""


def test_another_program_restores_it(session: Session, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Softplus())
    total = gradwire.rand(())
    checkpoint = session.checkpoint(model=model, total=total)
    expected = (model(gradwire.ones(2, 3)).sum() + total).item()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    output = subprocess.run(
        [sys.executable, str(script), checkpoint.name, session.address],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
        env={**os.environ, "GRADWIRE_ADDRESS": ""},
    ).stdout
    assert output.strip() == repr(expected)


def test_what_can_not_be_kept_is_said(session: Session) -> None:
    model = nn.Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
    with (
        pytest.raises(RequestError, match="can't be part of a checkpoint"),
        pytest.warns(UserWarning, match="holds 1 functions of your program"),
    ):
        session.checkpoint(scheduler=scheduler)
    with pytest.raises(TypeError, match=r"jobs\[0\] is a builtins.object, which can't be part"):
        session.checkpoint(jobs=[object()])
    with pytest.warns(UserWarning, match="values of the session are not part of the checkpoint"):
        session.checkpoint(model=model)
    model.register_forward_hook(lambda *_: None)
    with (
        pytest.warns(UserWarning, match="model._forward_hooks is not part of the checkpoint"),
        pytest.warns(UserWarning, match="values of the session are not part"),
    ):
        session.checkpoint(model=model)
    with (
        gradwire.connect(session.address) as another,
        pytest.raises(ValueError, match="lives in"),
    ):
        another.checkpoint(model=model)


def test_a_class_that_is_not_there_is_named(session: Session) -> None:
    kind = type("Vanishing", (Net,), {})
    kind.__qualname__ = "Vanishing"
    checkpoint = session.checkpoint(model=kind())
    kind.__qualname__ = "Another"
    with pytest.raises(LookupError, match=r"the class Vanishing of .*define or import it"):
        gradwire.restore(checkpoint)
    assert gradwire.current_session() is session


def test_a_backward_through_the_checkpoint_says_what_to_do(session: Session) -> None:
    weight = gradwire.ones(2, requires_grad=True)
    loss = (weight * 2).sum()
    with gradwire.restore(session.checkpoint(loss=loss)) as restored:
        restored.objects["loss"].backward()
        with pytest.raises(RuntimeError, match="run the forward pass again"):
            restored.flush()


def test_checkpoints_are_listed_described_and_deleted(session: Session) -> None:
    before = gradwire.checkpoints.list()
    first = session.checkpoint("first", value=gradwire.ones(3))
    second = session.checkpoint("second", ttl_seconds=1000.0, value=gradwire.ones(3))
    assert [c.display_name for c in gradwire.checkpoints.list()][:2] == ["second", "first"]
    assert gradwire.checkpoints.get(second) == second
    assert second.expire_time is not None
    assert (second.expire_time - second.create_time).total_seconds() == pytest.approx(1000, abs=1)
    gradwire.checkpoints.delete(first)
    assert gradwire.checkpoints.list() == [second, *before]
    gradwire.checkpoints.delete(second.name)
    for attempt in (gradwire.restore, gradwire.checkpoints.get, gradwire.checkpoints.delete):
        with pytest.raises(NotFoundError, match="there is no checkpoints/"):
            attempt(first)


def test_a_checkpoint_of_a_run_has_its_model_and_optimizer(session: Session) -> None:
    gradwire.manual_seed(0)
    inputs = np.random.default_rng(0).standard_normal((12, 4), dtype=np.float32)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    data = (inputs, inputs.sum(1, keepdims=True))

    def train(model: Any, optimizer: Any, scheduler: Any) -> list[bytes]:
        run = gradwire.train(
            *(model, data),
            loss=nn.MSELoss(),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=3,
            batch_size=4,
        )
        checkpoints.append(run.checkpoints[-1])
        return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]

    checkpoints: list[str] = []
    trained = train(model, optimizer, scheduler)
    with gradwire.restore(checkpoints[0]) as restored:
        found = [restored.objects[name] for name in ("model", "optimizer", "scheduler")]
        assert [t.numpy().tobytes() for t in found[0].state_dict().values()] == trained
        went_on = train(*found)
    assert train(model, optimizer, scheduler) == went_on


def test_a_session_without_room_for_a_copy_is_kept_all_the_same(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, max_session_bytes=64 * 2**20) as server,
        gradwire.connect(server.address) as session,
    ):
        large = gradwire.ones(10 * 2**20)
        checkpoint = session.checkpoint(large=large)
        assert checkpoint.num_bytes > 40 * 2**20
        large.add_(1)
        again = session.checkpoint(large=large)
        for kept, value in ((checkpoint, 1), (again, 2)):
            with gradwire.restore(kept) as restored:
                assert restored.objects["large"].mean().item() == value


def test_a_checkpoint_of_a_run_has_its_moving_average(session: Session) -> None:
    data = np.ones((8, 3), np.float32), np.zeros((8, 1), np.float32)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    run = gradwire.train(
        model,
        data,
        loss=nn.MSELoss(),
        optimizer=optim.SGD(model.parameters(), lr=0.1),
        steps=7,
        ema=0.5,
    )
    averaged = {name: tensor.numpy() for name, tensor in run.averaged_state_dict.items()}
    with gradwire.restore(run.checkpoints[-1]) as restored:
        found = restored.objects["average"]
        assert found.keys() == averaged.keys() == restored.objects["model"].state_dict().keys()
        for name, tensor in found.items():
            assert np.array_equal(tensor.numpy(), averaged[name]), name
        restored.objects["model"].load_state_dict(found)
