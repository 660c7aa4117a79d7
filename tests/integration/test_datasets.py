"""Datasets of the SDK on a real server: what is uploaded, resumed, shared and refused."""

import os
import resource
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import gradwire
from gradwire import datasets
from gradwire.errors import AuthenticationError, LimitError, NotFoundError, StorageError
from gradwire.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from tests.processes import ServerProcess
from tests.proxy import Proxy

X = np.random.default_rng(0).random((600, 3), np.float32)
Y = np.arange(600)


class Storing:
    """A server with a storage of its own, and a session on it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder / "storage"
        self.server = ServerProcess(folder, **options)

    def data(self, dataset: datasets.StoredDataset) -> dict[str, Any]:
        """Returns the columns that the server has stored for a dataset."""
        for path in self.folder.rglob("*.safetensors"):
            arrays = load_file(path)
            if set(arrays) == {column.name for column in dataset.columns}:
                return arrays
        raise AssertionError(f"nothing is stored for {dataset}")

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storing]:
    folder = tmp_path_factory.mktemp("storing")
    (folder / "allowed").mkdir()
    storing = Storing(folder, allowed_data_prefixes=folder / "allowed")
    with storing.server:
        yield storing


@pytest.fixture
def storing(shared: Storing) -> Iterator[Storing]:
    """The server of this module, without datasets."""
    with gradwire.connect(shared.server.address):
        yield shared
        for dataset in datasets.list():
            datasets.delete(dataset.name)


class Samples(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter({"x": x, "y": y} for x, y in zip(X, Y, strict=True))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: {"x": X, "y": Y}, ["x", "y"]),
        (lambda: {"x": X[::-1][::-1], "y": Y.astype(">i8")}, ["x", "y"]),
        (lambda: (X, Y), ["inputs", "targets"]),
        (lambda: (torch.tensor(X), torch.tensor(Y)), ["inputs", "targets"]),
        (lambda: (gradwire.tensor(X), gradwire.tensor(Y)), ["inputs", "targets"]),
        (lambda: TensorDataset(gradwire.tensor(X), Y), ["inputs", "targets"]),
        (lambda: torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), None),
        (Samples, ["inputs", "targets"]),
        (Stream, ["x", "y"]),
        (lambda: DataLoader(Samples(), batch_size=100), ["inputs", "targets"]),
        (
            lambda: torch.utils.data.DataLoader(cast(Any, Samples()), batch_size=64),
            ["inputs", "targets"],
        ),
    ],
)
def test_data_of_all_kinds_is_stored_as_it_is(storing: Storing, make: Any, names: Any) -> None:
    dataset = datasets.upload("d", make())
    names = names or ["inputs", "targets"]
    assert [column.name for column in dataset.columns] == names
    assert (dataset.num_samples, len(dataset)) == (600, 600)
    stored = storing.data(dataset)
    assert np.array_equal(stored[names[0]], X)
    assert np.array_equal(stored[names[1]], Y)


def test_a_single_array_is_a_column_and_names_may_be_given(storing: Storing) -> None:
    assert [column.name for column in datasets.upload("a", X).columns] == ["inputs"]
    named = datasets.upload("b", (X, Y, Y), columns=["x", "y", "z"])
    assert [column.name for column in named.columns] == ["x", "y", "z"]


def test_types_that_numpy_lacks_are_uploaded(storing: Storing) -> None:
    weights = torch.randn(5, 2).to(torch.bfloat16)
    dataset = datasets.upload("half", {"w": weights})
    assert dataset.columns[0].dtype is gradwire.bfloat16
    (path,) = storing.folder.rglob("*.safetensors")
    assert path.read_bytes()[-20:] == weights.view(torch.uint8).numpy().tobytes()


def test_datasets_are_listed_described_and_deleted(storing: Storing) -> None:
    made = datasets.upload("digits", {"x": X, "y": Y})
    assert datasets.get("digits") == made
    assert datasets.list() == [made]
    assert made.num_bytes == X.nbytes + Y.nbytes
    assert repr(made).splitlines()[1:] == [
        "  (x): torch.float32, [3]",
        "  (y): torch.int64, []",
        ")",
    ]
    assert "600 samples" in repr(made)
    assert "<td>torch.float32</td>" in made._repr_html_()
    datasets.delete("digits")
    assert datasets.list() == []
    assert storing.files() == []
    with pytest.raises(NotFoundError, match="digits"):
        datasets.get("digits")
    with pytest.raises(NotFoundError, match="digits"):
        datasets.delete("digits")


def test_columns_are_chosen_by_name(storing: Storing) -> None:
    dataset = datasets.upload("d", {"x": X, "y": Y})
    chosen = dataset.select(inputs="x", targets=["y"])
    assert (chosen.inputs, chosen.targets) == (("x",), ("y",))
    with pytest.raises(ValueError, match="no column 'z'; there are x, y"):
        dataset.select(inputs="z")


@pytest.fixture
def proxy(shared: Storing, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(tmp_path / "proxy.sock", shared.server.address) as proxy:
        yield proxy


MEGABYTES = np.random.default_rng(1).integers(0, 255, (64, 1024, 256), np.uint8)


def test_an_upload_goes_on_after_the_connection_broke(storing: Storing, proxy: Proxy) -> None:
    with gradwire.connect(proxy.address):
        proxy.cut_at_bytes = MEGABYTES.nbytes // 2
        dataset = datasets.upload("large", {"bytes": MEGABYTES})
        assert np.array_equal(storing.data(dataset)["bytes"], MEGABYTES)
    assert proxy.num_connections == 2
    assert proxy.num_client_bytes < 1.5 * MEGABYTES.nbytes


def test_an_upload_that_was_interrupted_goes_on_when_it_is_repeated(
    storing: Storing, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["gradwire.datasets.uploading"]
    pieces = module._pieces

    def interrupted(*args: Any) -> Iterator[Any]:
        for number, piece in enumerate(pieces(*args)):
            if number == 8:
                raise OSError("the disk of the client failed")
            yield piece

    monkeypatch.setattr(module, "_pieces", interrupted)
    with pytest.raises(OSError, match="the disk of the client failed"):
        datasets.upload("large", {"bytes": MEGABYTES})
    monkeypatch.undo()
    assert storing.files() != []
    assert datasets.list() == []
    with gradwire.connect(proxy.address):
        datasets.upload("large", {"bytes": MEGABYTES})
    assert proxy.num_client_bytes < MEGABYTES.nbytes - 2**20


def test_a_second_upload_of_the_same_data_moves_nothing(storing: Storing, proxy: Proxy) -> None:
    first = datasets.upload("large", {"bytes": MEGABYTES})
    with gradwire.connect(proxy.address):
        again = datasets.upload("large", {"bytes": MEGABYTES})
        other = datasets.upload("other", {"bytes": MEGABYTES})
    assert again == first
    assert other.sha256 == first.sha256
    assert proxy.num_client_bytes < 2**16
    assert sum(name.endswith(".safetensors") for name in storing.files()) == 1


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, ValueError, "no samples"),
        ({"x": X[:0]}, ValueError, "no samples"),
        ([], ValueError, "empty"),
        ({"x": X, "y": Y[:5]}, ValueError, "x: 600, y: 5"),
        ({"x": np.float32(1)}, TypeError, "single value"),
        ({"x": np.array(["a", "b"])}, TypeError, "'x'.*<U1"),
        ({"x": np.array([object()])}, TypeError, "'x'.*object"),
        (7, TypeError, "can't upload a int"),
        ([(X[0], 1), (X[0, :2], 1)], ValueError, "not all alike"),
        ({"x": np.array([[1.0, 2.0], [3.0, np.nan]])}, ValueError, "'x'.*NaN.*sample 1"),
        ({"x": np.array([np.inf], np.float16)}, ValueError, "infinity"),
    ],
)
def test_data_that_can_not_be_used_is_refused(
    storing: Storing, data: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        datasets.upload("bad", data)
    assert storing.files() == []


def test_nan_may_be_allowed(storing: Storing) -> None:
    datasets.upload("holes", {"x": np.array([np.nan])}, allow_nonfinite=True)


def test_a_name_that_is_taken_or_malformed_is_refused(storing: Storing) -> None:
    datasets.upload("d", {"x": X})
    with pytest.raises(ValueError, match="datasets/d exists and holds other data"):
        datasets.upload("d", {"x": X[:10]})
    with pytest.raises(ValueError, match="datasets/a/b"):
        datasets.upload("a/b", {"x": X})


def test_what_is_over_the_quota_is_refused(tmp_path: Path) -> None:
    storing = Storing(tmp_path, max_total_dataset_bytes=X.nbytes + 500, max_message_bytes=4096)
    with storing.server, gradwire.connect(storing.server.address):
        datasets.upload("first", {"x": X})
        with pytest.raises(LimitError, match="max_total_dataset_bytes"):
            datasets.upload("second", {"y": Y})
        datasets.delete("first")
        datasets.upload("second", {"y": Y})


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    storing = Storing(tmp_path)
    with storing.server, gradwire.connect(storing.server.address):
        # What the process may write to one file ends as a full disk does.
        limits = (3 * 2**20, resource.RLIM_INFINITY)
        resource.prlimit(storing.server.process.pid, resource.RLIMIT_FSIZE, limits)
        with pytest.raises(StorageError, match="full"):
            datasets.upload("large", {"bytes": MEGABYTES})
        assert storing.files() == []
        datasets.upload("small", {"x": X})


def test_files_of_the_server_are_described(storing: Storing) -> None:
    folder = storing.folder.parent / "allowed"
    (folder / "a-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 3) + b"\0\1\2")
    (folder / "b.csv").write_text("x,y,label\n1.5,2,0\n3.5,4,1\n")
    labels = datasets.source(str(folder / "a-idx1-ubyte"))
    assert (labels.num_samples, labels.columns[0].name) == (3, "labels")
    table = datasets.source(
        f"file://{folder}/b.csv", columns={"features": ["x", "y"], "label": "label"}
    )
    assert [(each.name, each.dtype, each.shape) for each in table.columns] == [
        ("features", gradwire.float32, (2,)),
        ("label", gradwire.int64, ()),
    ]
    with pytest.raises(NotFoundError, match="absent"):
        datasets.source(str(folder / "absent.csv"))
    with pytest.raises(AuthenticationError, match="allowed_data_prefixes"):
        datasets.source("/etc/passwd", format="csv")
    with pytest.raises(ValueError, match="no format"):
        datasets.source("/etc/passwd", format="pickle")


def test_nothing_is_shown_where_there_is_no_terminal(
    storing: Storing, capfd: pytest.CaptureFixture[str]
) -> None:
    datasets.upload("d", {"x": X})
    assert capfd.readouterr().err == ""


SCRIPT = """
import numpy, gradwire
with gradwire.connect({address!r}):
    gradwire.datasets.upload("d", {{"x": numpy.zeros((10, 3))}})
"""


def test_a_bar_is_shown_in_a_terminal(storing: Storing) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(address=storing.server.address)],
        stderr=theirs,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0
    assert b"uploading d: 100%" in os.read(ours, 2**16)
    os.close(ours)
