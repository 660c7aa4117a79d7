"""Where a run's samples come from: the same samples, whatever holds them."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gradwire.v1 import datasets_pb2
from gradwire_server.datasets.columns import Column, Schema
from gradwire_server.datasets.store import Contents, DatasetStore
from gradwire_server.engine.session import Session
from gradwire_server.engine.sources import TensorSource, open_source
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage, StorageConfig

COLUMNS = {
    "image": torch.arange(24, dtype=torch.uint8).reshape(6, 2, 2),
    "weight": torch.randn(6, 3).to(torch.bfloat16),
    "flag": torch.tensor([True, False, True, True, False, False]),
    "label": torch.arange(6),
}
DTYPES = {"image": "uint8", "weight": "bfloat16", "flag": "bool", "label": "int64"}
Source = datasets_pb2.DataSource


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session whose tenant has the dataset `d`."""
    storage = Storage(
        StorageConfig(url=str(tmp_path / "storage"), allowed_data_prefixes=(str(tmp_path),))
    )
    schema = Schema(
        columns=tuple(
            Column(name=name, dtype=DTYPES[name], shape=tuple(tensor.shape[1:]))
            for name, tensor in COLUMNS.items()
        ),
        num_samples=6,
    )
    data = b"".join(t.contiguous().view(torch.uint8).numpy().tobytes() for t in COLUMNS.values())
    contents = Contents(schema=schema, sha256=hashlib.sha256(data).hexdigest())
    with storage.scratch_file() as path:
        path.write_bytes(schema.header() + data)
        DatasetStore(storage, "acme").put("datasets/d", contents, path)
    device = torch.device("cpu")
    return Session("sessions/s", device=device, limits=Limits(), storage=storage, tenant="acme")


@pytest.mark.parametrize("samples", [slice(1, 4), slice(0, 6), torch.tensor([5, 0, 0, 3])])
def test_a_dataset_has_the_samples_that_tensors_have(session: Session, samples: Any) -> None:
    names = list(COLUMNS)
    source = open_source(
        session, Source(dataset="datasets/d", inputs=names[:3], targets=names[3:]), "data"
    )
    tensors = TensorSource([COLUMNS[name] for name in names[:3]], [COLUMNS["label"]])
    assert source.num_samples == tensors.num_samples == 6
    for ours, theirs in zip(source.take(samples), tensors.take(samples), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
            one.zero_()
            other.zero_()
    assert COLUMNS["label"].tolist() == [0, 1, 2, 3, 4, 5]
    assert source.take(slice(1, 2))[1][0].tolist() == [1]


@pytest.mark.parametrize(
    ("inputs", "targets", "expected"),
    [
        ([], [], (["image", "weight", "flag"], ["label"])),
        (["image"], [], (["image"], [])),
        ([], ["flag"], (["image", "weight", "label"], ["flag"])),
        (["label"], ["label"], (["label"], ["label"])),
    ],
)
def test_columns_are_inputs_and_targets_by_name_or_by_place(
    session: Session, inputs: list[str], targets: list[str], expected: Any
) -> None:
    message = Source(dataset="datasets/d", inputs=inputs, targets=targets)
    taken = open_source(session, message, "data").take(slice(0, 1))
    for part, names in zip(taken, expected, strict=True):
        assert [tensor.shape[1:] for tensor in part] == [COLUMNS[n].shape[1:] for n in names]


def test_files_have_the_samples_that_they_hold(session: Session, tmp_path: Path) -> None:
    x = torch.randn(4, 2)
    save_file({"x": x, "y": torch.arange(4)}, tmp_path / "a.safetensors")
    files = datasets_pb2.Files(files=[datasets_pb2.File(uri=str(tmp_path / "a.safetensors"))])
    source = open_source(session, Source(files=files, inputs=["x"], targets=["y"]), "data")
    (taken,), (numbers,) = source.take(torch.tensor([2, 0]))
    assert torch.equal(taken, x[[2, 0]])
    assert numbers.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("message", "reason", "text"),
    [
        (Source(), Reason.INVALID_REQUEST, "no kind"),
        (Source(dataset="datasets/absent"), Reason.DATASET_NOT_FOUND, "absent"),
        (Source(dataset="d"), Reason.INVALID_REQUEST, "datasets/"),
        (Source(dataset="datasets/d", inputs=["x"]), Reason.INVALID_REQUEST, "'x'.*'image'"),
        (
            Source(dataset="datasets/d", targets=list(COLUMNS)),
            Reason.INVALID_REQUEST,
            "all columns are targets",
        ),
        (Source(files=datasets_pb2.Files()), Reason.INVALID_REQUEST, "files"),
        (
            Source(files=datasets_pb2.Files(files=[datasets_pb2.File(uri="/etc/x.csv")])),
            Reason.URI_NOT_ALLOWED,
            "allowed_data_prefixes",
        ),
    ],
)
def test_what_is_not_there_is_told(
    session: Session, message: Source, reason: Reason, text: str
) -> None:
    with pytest.raises(GradwireError, match=text) as caught:
        open_source(session, message, "data")
    assert caught.value.reason is reason


def test_another_tenants_dataset_is_not_there(session: Session) -> None:
    session.tenant = "other"
    with pytest.raises(GradwireError) as caught:
        open_source(session, Source(dataset="datasets/d"), "data")
    assert caught.value.reason is Reason.DATASET_NOT_FOUND


def test_tensors_that_are_no_samples_are_refused() -> None:
    with pytest.raises(GradwireError, match="empty"):
        TensorSource([], [])
    with pytest.raises(GradwireError, match="no samples"):
        TensorSource([torch.zeros(0, 3)], [])
    with pytest.raises(GradwireError, match=r"targets\[0\].*holds 2.*holds 3"):
        TensorSource([torch.zeros(3)], [torch.zeros(2)])
