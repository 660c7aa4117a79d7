"""Saving to safetensors files and loading from them."""

import copy
import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

import gradwire
from gradwire import nn, optim
from gradwire.session import Session
from tests.parity.comparing import comparable
from tests.processes import ServerProcess


def trained() -> tuple[nn.Module, Any]:
    gradwire.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(gradwire.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()
    return model, optimizer


def test_a_state_dict_has_torchs_names_in_the_file(session: Session, tmp_path: Path) -> None:
    model, _ = trained()
    gradwire.save(model.state_dict(), tmp_path / "model.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    local = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)
    )
    assert set(tensors) == set(local.state_dict())
    local.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    assert comparable(local.state_dict()) == comparable(model.state_dict())


def test_a_checkpoint_is_resumed_in_another_session(address: str, tmp_path: Path) -> None:
    with gradwire.connect(address):
        model, optimizer = trained()
        scheduler = optim.lr_scheduler.StepLR(optimizer, 2)
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "epoch": 3,
        }
        gradwire.save(checkpoint, tmp_path / "checkpoint")
        inputs = gradwire.randn(8, 3)
        gradwire.save(inputs, tmp_path / "inputs")
        expected = _continued(model, optimizer, inputs)
    with gradwire.connect(address):
        model, optimizer = trained()
        loaded = gradwire.load(tmp_path / "checkpoint")
        assert loaded["epoch"] == 3
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])
        optim.lr_scheduler.StepLR(optimizer, 2).load_state_dict(loaded["scheduler"])
        assert _continued(model, optimizer, gradwire.load(tmp_path / "inputs")) == expected


def _continued(model: nn.Module, optimizer: Any, inputs: Any) -> list[float]:
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(inputs).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_any_nesting_of_plain_values_comes_back(session: Session) -> None:
    value = {
        "tensors": [gradwire.arange(3), gradwire.ones(2, 0), nn.Parameter(gradwire.ones(2))],
        1: (1, -2.5, float("inf"), True, None, "text", 1 + 2j),
        "ordered": OrderedDict(a=gradwire.float16, b=gradwire.Size([2, 3])),
        "array": np.array([[1, 2]], np.int16),
        "bfloat16": gradwire.ones(2, dtype=gradwire.bfloat16, requires_grad=True),
        "a.b": gradwire.zeros(1),
        "a": {"b": gradwire.ones(1)},
    }
    buffer = io.BytesIO()
    gradwire.save(value, buffer)
    buffer.seek(0)
    loaded = gradwire.load(buffer)
    assert comparable(loaded) == comparable(value)
    assert isinstance(loaded["tensors"][2], nn.Parameter)
    assert list(loaded) == list(value)


def test_files_of_others_are_tensors_by_name(session: Session, tmp_path: Path) -> None:
    safetensors.numpy.save_file({"x": np.arange(4.0)}, tmp_path / "other")
    assert gradwire.load(tmp_path / "other")["x"].tolist() == [0, 1, 2, 3]


def test_a_tensor_may_be_larger_than_a_message(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, max_message_bytes=4096) as server,
        gradwire.connect(server.address),
    ):
        _save_and_load(tmp_path)


def _save_and_load(folder: Path) -> None:
    tensor = gradwire.randn(50, 40)
    gradwire.save({"x": tensor, "y": tensor[0]}, folder / "large")
    loaded = gradwire.load(folder / "large")
    assert gradwire.equal(loaded["x"], tensor)


def test_what_is_no_plain_value_is_refused_by_its_place(session: Session, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"Linear \(\['net'\]\[0\]\).*state_dict"):
        gradwire.save({"net": [nn.Linear(1, 1)]}, tmp_path / "x")
    with pytest.raises(TypeError, match="function"):
        gradwire.save(copy.copy, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\0\0\0\0\0\0\0{}",
        b"\xff" * 16,
        b"\x02\0\0\0\0\0\0\0[]",
        b'\x3d\0\0\0\0\0\0\0{"x":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}      ',
        b'\x3d\0\0\0\0\0\0\0{"x":{"dtype":"what","shape":[],"data_offsets":[0,0]}}       ',
    ],
)
def test_a_damaged_file_is_refused(session: Session, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"safetensors|tensor 'x'"):
        gradwire.load(io.BytesIO(data))
