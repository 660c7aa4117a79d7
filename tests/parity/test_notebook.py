"""The notebook prints on a server what it prints with local torch, character for character."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import gradwire

CELLS = {
    path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("notebook/*.py"))
}
NEEDS = {
    "cell_07": ("cell_05",),
    "cell_12": ("cell_05", "cell_07"),
    "cell_18": ("cell_05", "cell_07", "cell_17"),
}
"""The cells that a cell builds on; the others stand alone."""
IMPORTS = {
    "import torch": "import gradwire as torch",
    "import torch.nn as nn": "import gradwire.nn as nn",
    "import torch.nn.init as init": "import gradwire.nn.init as init",
    "import torch.optim as optim": "import gradwire.optim as optim",
}


def remote(cell: str) -> str:
    """Returns a cell with its import lines changed, and nothing else."""
    return re.sub(
        r"^import torch\S*(?: as \w+)?", lambda found: IMPORTS[found[0]], cell, flags=re.MULTILINE
    )


def printed(cells: list[str], manual_seed: Any) -> list[str]:
    """Runs cells one after the other in one namespace; returns what each prints."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for cell in cells:
        manual_seed(0)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(cell, namespace)
        outputs.append(output.getvalue())
    return outputs


def assert_prints_the_same(names: list[str]) -> None:
    cells = [CELLS[name] for name in names]
    local = printed(cells, torch.manual_seed)
    served = printed([remote(cell) for cell in cells], gradwire.manual_seed)
    assert dict(zip(names, served, strict=True)) == dict(zip(names, local, strict=True))


def test_all_ten_cells_are_here() -> None:
    assert [int(name.removeprefix("cell_")) for name in CELLS] == [
        *(5, 7, 12, 13, 14, 15, 17, 18, 19, 21),
    ]


def test_only_import_lines_are_changed() -> None:
    for cell in CELLS.values():
        for before, after in zip(cell.splitlines(), remote(cell).splitlines(), strict=True):
            assert before == after or (before.startswith("import torch") and "gradwire" in after)


@pytest.mark.usefixtures("session")
def test_the_whole_notebook_prints_what_torch_prints() -> None:
    assert_prints_the_same(list(CELLS))


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_by_itself_prints_what_torch_prints(name: str) -> None:
    assert_prints_the_same([*NEEDS.get(name, ()), name])


def test_the_cells_print_what_they_are_about() -> None:
    outputs = dict(zip(CELLS, printed(list(CELLS.values()), torch.manual_seed), strict=True))

    assert outputs["cell_05"].count("grad_fn=<AddmmBackward0>") == 3
    assert outputs["cell_07"].count("After ReLU activation") == 2
    assert outputs["cell_12"].count("Loss: ") == 10
    assert outputs["cell_21"].count("END OF EPOCH") == 10
