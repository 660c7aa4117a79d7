"""Files of each format as tables: what they hold, and what is said of those that are damaged."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from gradwire.v1 import datasets_pb2
from gradwire_server.datasets import files, formats, importing
from gradwire_server.datasets.files import ENDINGS, open_files
from gradwire_server.datasets.importing import Selection
from gradwire_server.datasets.tables import Table
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage, StorageConfig

Open = Callable[..., Table]
ALL = slice(None)


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports files in this process: starting one takes longer than what most tests do."""

    def convert(path: Path, target: Path, *, format_name: str, **options: Any) -> None:
        importing._convert(path, target, format_name, **options)

    monkeypatch.setattr(files, "import_file", convert)


@pytest.fixture
def open_(tmp_path: Path, _here: None) -> Open:
    """Opens files of the test's folder by name."""
    return opener(tmp_path)


def opener(tmp_path: Path) -> Open:
    config = StorageConfig(
        url=str(tmp_path / "storage"),
        cache_folder=str(tmp_path / "cache"),
        allowed_data_prefixes=(str(tmp_path),),
    )
    storage = Storage(config)

    def call(*names: str, limits: Limits | None = None, **selections: Any) -> Table:
        chosen = [
            datasets_pb2.ColumnSelection(name=name, columns=columns)
            for name, columns in selections.items()
        ]
        message = [datasets_pb2.File(uri=str(tmp_path / name), selections=chosen) for name in names]
        return open_files(storage, limits or Limits(), datasets_pb2.Files(files=message), "files")

    return call


def values(table: Table, name: str) -> Any:
    column = next(column for column in table.schema.columns if column.name == name)
    return table.take(name, ALL).view(column.dtype).reshape(-1, *column.shape)


def columns(table: Table) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {column.name: (column.dtype, column.shape) for column in table.schema.columns}


def test_every_format_has_a_reader_and_an_ending() -> None:
    assert set(ENDINGS.values()) == set(formats.READERS)
    assert len(formats.READERS) == len(datasets_pb2.FileFormat.values()) - 1


def test_a_safetensors_file_is_mapped_where_it_is(tmp_path: Path, open_: Open) -> None:
    x, y = np.random.rand(5, 2).astype(np.float32), np.arange(5)
    save_file({"x": x, "y": y}, tmp_path / "a.safetensors")
    table = open_("a.safetensors")
    assert columns(table) == {"y": ("int64", ()), "x": ("float32", (2,))}
    assert np.array_equal(values(table, "x"), x)
    assert np.array_equal(values(table, "y"), y)
    assert not (tmp_path / "cache" / "copies").exists()
    chosen = open_("a.safetensors", features=["x"])
    assert columns(chosen) == {"features": ("float32", (2,))}


def test_an_npz_file_is_read_compressed_or_not(tmp_path: Path, open_: Open) -> None:
    x, y = np.random.rand(5, 2), np.arange(5, dtype=">i4")
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez_compressed(tmp_path / "b.npz", x=x, y=y)
    for name in ("a.npz", "b.npz"):
        table = open_(name)
        assert columns(table) == {"x": ("float64", (2,)), "y": ("int32", ())}
        assert np.array_equal(values(table, "x"), x)
        assert np.array_equal(values(table, "y"), y)


def test_csv_has_integers_and_floats(tmp_path: Path, open_: Open) -> None:
    text = "a,b,label\n0.5,1,0\n1.5,2,1\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.csv", "b.csv.gz"):
        table = open_(name)
        assert columns(table) == {"a": ("float32", ()), "b": ("int64", ()), "label": ("int64", ())}
        joined = open_(name, features=["a", "b"], target=["label"])
        assert columns(joined) == {"features": ("float32", (2,)), "target": ("int64", ())}
        assert values(joined, "features").tolist() == [[0.5, 1.0], [1.5, 2.0]]


def test_a_csv_column_whose_first_float_comes_late_is_of_floats(
    tmp_path: Path, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 16)
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 100 + "0.5,3\n")
    importing._convert(tmp_path / "a.csv", tmp_path / "a.safetensors", "csv", [], Limits())
    table = open_("a.safetensors")
    assert columns(table) == {"a": ("float32", ()), "b": ("int64", ())}
    assert values(table, "a").sum() == 100.5


def test_parquet_has_numbers_and_lists(tmp_path: Path, open_: Open) -> None:
    table = pa.table(
        {
            "x": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "v": pa.array([[1], [2]], pa.list_(pa.int64())),
            "y": pa.array([True, False]),
            "z": pa.array([1.0, 2.0]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    opened = open_("a.parquet")
    assert columns(opened) == {
        "x": ("float32", (2,)),
        "v": ("int64", (1,)),
        "y": ("bool", ()),
        "z": ("float64", ()),
    }
    assert values(opened, "x").tolist() == [[1, 2], [3, 4]]
    assert values(opened, "y").tolist() == [True, False]


def test_cifar10_has_images_and_labels_over_several_files(tmp_path: Path, open_: Open) -> None:
    rng = np.random.default_rng(0)
    records = rng.integers(0, 10, (7, 3073), np.uint8)
    (tmp_path / "data_batch_1.bin").write_bytes(records[:4].tobytes())
    (tmp_path / "data_batch_2.bin").write_bytes(records[4:].tobytes())
    table = open_("data_batch_1.bin", "data_batch_2.bin")
    assert table.schema.num_samples == 7
    assert columns(table) == {"images": ("uint8", (3, 32, 32)), "labels": ("int64", ())}
    assert np.array_equal(values(table, "labels"), records[:, 0])
    order = np.array([6, 0, 3, 4, 0])
    taken = table.take("images", order).reshape(-1, 3072)
    assert np.array_equal(taken, records[order, 1:])


def test_a_file_is_read_in_a_process_of_its_own(tmp_path: Path) -> None:
    open_ = opener(tmp_path)
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert values(open_("a.csv"), "a").tolist() == [1]
    (tmp_path / "a.csv").write_text("a,b\n1\n")
    with pytest.raises(GradwireError, match=r"a\.csv.*CSV") as caught:
        open_("a.csv")
    assert caught.value.reason is Reason.INVALID_REQUEST


def test_idx_of_all_element_types(tmp_path: Path, open_: Open) -> None:
    for code, kind in (
        (8, "u1"),
        (9, "i1"),
        (0xB, ">i2"),
        (0xC, ">i4"),
        (0xD, ">f4"),
        (0xE, ">f8"),
    ):
        array = np.arange(6).astype(kind).reshape(3, 2)
        (tmp_path / "a.idx").write_bytes(
            struct.pack(">4B2I", 0, 0, code, 2, 3, 2) + array.tobytes()
        )
        table = open_("a.idx")
        assert columns(table) == {"images": (np.dtype(kind).newbyteorder("<").name, (2,))}
        assert np.array_equal(values(table, "images"), array)


def test_a_file_that_changed_is_read_anew(tmp_path: Path, open_: Open) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    first = open_("a.csv")
    (tmp_path / "a.csv").write_text("a\n2\n3\n")
    second = open_("a.csv")
    assert values(second, "a").tolist() == [2, 3]
    assert first.fingerprint != second.fingerprint
    assert second.fingerprint == open_("a.csv").fingerprint


class Evil:
    """What would run if somebody unpickled it."""

    def __reduce__(self) -> Any:
        return (open, ("/tmp/gradwire-was-here", "w"))


def write_object_array(path: Path) -> None:
    np.savez(path, x=np.array([Evil()], dtype=object))


def idx(magic: bytes, *shape: int, data: bytes = b"") -> bytes:
    return magic + struct.pack(f">{len(shape)}I", *shape) + data


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.safetensors", b"", "header"),
        ("a.safetensors", struct.pack("<Q", 2**40), "header"),
        ("a.safetensors", struct.pack("<Q", 4) + b"[1]]", "JSON"),
        ("a.npz", b"PK nothing", "zip"),
        ("a.npz", write_object_array, "not numbers"),
        ("a.npz", lambda path: np.savez(path, x=np.zeros(2), y=np.zeros(3)), "different numbers"),
        ("a.npz", lambda path: np.savez(path, x=np.float64(1)), "single number"),
        ("a.csv", b"", "CSV"),
        ("a.csv", b"a,b\n", "no samples"),
        ("a.csv", b"a,b\n1,2\n3\n", "CSV"),
        ("a.csv", b"a,b\n1,\n", "no value in row 0"),
        ("a.csv", b"a,b\n1,x\n", "'b' holds string"),
        ("a.parquet", b"PAR1", "Parquet"),
        ("a.idx", b"\0\0\1\1" + bytes(4), "IDX"),
        ("a.idx", idx(b"\0\0\x08\1", 5, data=b"123"), "ends in the middle"),
        ("a.idx", idx(b"\0\0\x08\1", 2, data=b"123"), "goes on"),
        ("a.idx", idx(b"\0\0\x08\1", 0), "no samples"),
        ("a.idx.gz", b"\x1f\x8b broken", "damaged"),
        ("a.bin", bytes(3072), "multiple"),
        ("a.bin", b"\x0a" + bytes(3072), "label 10"),
    ],
)
def test_a_damaged_file_is_told_by_name_and_why(
    tmp_path: Path, open_: Open, name: str, data: Any, message: str
) -> None:
    if callable(data):
        data(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(GradwireError, match=message) as caught:
        open_(name)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert name in caught.value.message
    assert not list((tmp_path / "storage" / ".scratch").glob("*"))
    assert not Path("/tmp/gradwire-was-here").exists()


def test_what_is_selected_must_be_there(tmp_path: Path, open_: Open) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(GradwireError, match="no column 'c'"):
        open_("a.csv", x=["a", "c"])
    np.savez(tmp_path / "a.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(GradwireError, match="can't be joined"):
        open_("a.npz", x=["a", "b"])


def test_columns_of_different_lengths_over_files_are_refused(tmp_path: Path, open_: Open) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    (tmp_path / "b.csv").write_text("b\n1\n")
    with pytest.raises(GradwireError, match="a: 2, b: 1"):
        open_("a.csv", "b.csv")


def test_a_file_that_holds_too_much_is_refused_while_it_is_read(
    tmp_path: Path, open_: Open
) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((100, 10_000)))
    limits = Limits(max_dataset_bytes=1_000_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    with pytest.raises(GradwireError, match="max_dataset_bytes") as caught:
        open_("bomb.npz", limits=limits)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_a_selection_is_a_name_and_its_columns() -> None:
    block = {"a": np.array([1, 2]), "b": np.array([0.5, 1.5], np.float32)}
    joined = importing._select(block, [Selection(name="x", columns=("a", "b"))])
    assert joined["x"].dtype == np.float32
