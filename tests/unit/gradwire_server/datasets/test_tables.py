"""Tables: samples of mapped files, in any order, without holding the files in memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradwire_server.datasets.columns import Column, Schema
from gradwire_server.datasets.tables import MappedFile, Table


def table_of(folder: Path, *parts: dict[str, Any]) -> Table:
    files = []
    for number, arrays in enumerate(parts):
        path = folder / f"{number}.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        files.append(MappedFile(path))
    return Table(files, fingerprint="test")


X = np.random.default_rng(0).random((20, 3), np.float32)
Y = np.arange(20)


@pytest.mark.parametrize("cuts", [[], [7], [1, 2, 19]])
@pytest.mark.parametrize(
    "samples",
    [slice(0, 20), slice(5, 9), slice(18, 40), slice(None), [3], [19, 0, 7, 7, 6], list(range(20))],
)
def test_samples_are_taken_in_the_order_given(
    tmp_path: Path, cuts: list[int], samples: Any
) -> None:
    parts = [{"x": x, "y": y} for x, y in zip(np.split(X, cuts), np.split(Y, cuts), strict=True)]
    table = table_of(tmp_path, *parts)
    chosen = samples if isinstance(samples, slice) else np.array(samples)
    assert table.schema.num_samples == 20
    assert np.array_equal(table.take("x", chosen).view(np.float32), X[samples])
    assert np.array_equal(table.take("y", chosen).view(np.int64)[:, 0], Y[samples])


def test_columns_may_come_from_different_files(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"x": X}, {"y": Y})
    assert [column.name for column in table.schema.columns] == ["x", "y"]
    assert np.array_equal(table.take("y", slice(3, 5)).view(np.int64)[:, 0], [3, 4])


def test_a_file_may_be_removed_while_it_is_read(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"x": X})
    (tmp_path / "0.safetensors").unlink()
    assert np.array_equal(table.take("x", slice(None)).view(np.float32), X)


def test_what_does_not_go_together_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different numbers of samples"):
        table_of(tmp_path, {"x": X}, {"y": Y[:3]})
    with pytest.raises(ValueError, match=r"int64.*float32"):
        table_of(tmp_path, {"x": Y}, {"x": X})


TRAIN_BEYOND_MEMORY = """
import re, resource, sys
from pathlib import Path
import numpy as np
from gradwire_server.datasets.tables import MappedFile, Table

def memory(kind):
    text = Path("/proc/self/status").read_text()
    return int(re.search(kind + r":\\s*(\\d+) kB", text)[1]) * 1024

table = Table([MappedFile(Path(sys.argv[1]))], fingerprint="")
numbers = np.random.default_rng(0).permutation(table.schema.num_samples)
before = memory("VmRSS")
limit = memory("VmData") + 64 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
most = seen = 0
for begin in range(0, len(numbers), 64):
    seen += len(table.take("x", numbers[begin : begin + 64]))
    most = max(most, memory("VmRSS") - before)
print(seen, most)
"""


def test_a_file_larger_than_the_memory_allowed_is_read_without_growing(tmp_path: Path) -> None:
    # A sparse file: it reads as zeros and takes no space on the disk.
    column = Column(name="x", dtype="float32", shape=(64, 1024))
    schema = Schema(columns=(column,), num_samples=2048)
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(schema.header())
        file.truncate(file.tell() + schema.data_bytes)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_BEYOND_MEMORY, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    seen, most = map(int, done.stdout.split())
    assert seen == 2048
    assert schema.data_bytes == 512 * 2**20
    assert most < 160 * 2**20
