"""The examples run as they stand, against a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NODE = Path(sys.executable).parent / "node"
"""Comes with the virtual environment; `make test` installs the modules that the example loads."""
WITHOUT_TORCH = """
import runpy, sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "torch" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def run(*command: object, folder: Path, address: str | None = None) -> str:
    """Runs a program in `folder`; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "GRADWIRE_ADDRESS"}
    environment["GRADWIRE_STORAGE"] = str(folder / "storage")
    # Threads that wait for each other get nowhere on a machine with other work.
    environment |= {"GRADWIRE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if address is not None:
        environment["GRADWIRE_ADDRESS"] = address
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def accuracies(printed: str) -> list[float]:
    """Returns the test accuracies after training, in percent."""
    return [float(percent) for percent in re.findall(r"-> ([\d.]+)%", printed)]


def test_the_loop_prints_what_it_prints_with_torch(tmp_path: Path) -> None:
    script = EXAMPLES / "train_loop.py"
    local = tmp_path / "local.py"
    local.write_text(
        script.read_text()
        .replace("import gradwire as torch", "import torch")
        .replace("from gradwire import", "from torch import")
    )

    printed = run(sys.executable, script, folder=tmp_path)

    assert printed.count("loss") == 5
    assert printed == run(sys.executable, local, folder=tmp_path)


def test_the_demo_learns_digits_as_torch_does_and_survives_a_killed_worker(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "digits.py", folder=tmp_path)

    assert len(accuracies(printed)) == 5
    assert min(accuracies(printed)) >= 95
    assert printed.count("losses are equal to the last bit") == 2
    assert re.search(r"killed after step \d+; .* are equal bit for bit", printed)
    assert (tmp_path / "outputs" / "digits.png").stat().st_size > 10_000


def test_the_demo_needs_no_torch_where_there_is_a_server(tmp_path: Path, address: str) -> None:
    printed = run(
        *(sys.executable, "-c", WITHOUT_TORCH, EXAMPLES / "digits.py"),
        folder=tmp_path,
        address=address,
    )

    assert address in printed
    assert len(accuracies(printed)) == 2
    assert min(accuracies(printed)) >= 95


def test_a_net_in_plain_torch_trains_as_it_does_locally(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "from_torch.py", folder=tmp_path)

    assert printed.count("loss") == 3
    assert "weights as local torch trains them: True" in printed
    assert "accuracy of the net in torch: 100%" in printed


def test_the_six_verbs_train_from_the_stubs_alone(tmp_path: Path, address: str) -> None:
    printed = run(sys.executable, EXAMPLES / "six_verbs.py", address, folder=tmp_path)

    losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", printed)]
    assert len(losses) == 6
    assert losses[-1] < 0.01 < losses[0]


def test_the_six_verbs_do_in_javascript_what_they_do_in_python(
    tmp_path: Path, address: str
) -> None:
    printed = run(NODE, EXAMPLES / "javascript" / "six_verbs.js", folder=tmp_path, address=address)

    assert printed == run(
        sys.executable, EXAMPLES / "six_verbs.py", folder=tmp_path, address=address
    )


def test_a_model_and_a_loss_of_ones_own_train_in_javascript(tmp_path: Path, address: str) -> None:
    script = EXAMPLES / "javascript" / "own_model.js"
    printed = run(NODE, script, folder=tmp_path, address=address)

    losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", printed)]
    assert len(losses) == 6
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.005 < losses[0]
