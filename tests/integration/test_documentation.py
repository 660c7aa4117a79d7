"""The examples in the documentation run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    f"{page.relative_to(ROOT)}-{number}": example
    for page in PAGES
    for number, example in enumerate(EXAMPLE.findall(page.read_text()), start=1)
}


def run(source: str, folder: Path) -> str:
    """Runs a script in a program of its own, on a server that it starts; returns its output."""
    script = folder / "example.py"
    script.write_text(source)
    finished = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name != "GRADWIRE_ADDRESS"},
            "XDG_DATA_HOME": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    run(example, tmp_path)


def test_the_example_of_the_readme_prints_what_torch_prints(tmp_path: Path) -> None:
    remote = EXAMPLES["README.md-1"]
    local = remote.replace("import gradwire", "import torch")

    printed = run(remote, tmp_path)

    assert printed.count("\n") == 5
    assert printed == run(local, tmp_path)
