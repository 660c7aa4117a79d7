"""The benchmarks run from end to end. How fast things are is not for a test to say."""

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.lines import LINES, TRIPS
from benchmarks.nets import NETS

ROOT = Path(__file__).resolve().parents[2]
NET = NETS[0]
"""One is enough to see that every line works."""


def test_a_quick_look_fills_every_line(tmp_path: Path) -> None:
    output = tmp_path / "benchmarks.json"

    finished = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--net", NET.name),
            *("--output", str(output)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    written = json.loads(output.read_text())
    assert [(result["net"], result["work"]) for result in written["results"]] == [
        (at, line.work) for at, lines in {NET.name: LINES, **TRIPS}.items() for line in lines
    ]
    assert all(result["milliseconds"]["median"] > 0 for result in written["results"])
    assert set(written["rounds"]) == {NET.name, *TRIPS}
    assert "torch" in written["machine"]["versions"]


def test_a_quick_look_at_what_watching_costs_has_a_line_for_each_way_and_work() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.observing", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    for how in ("nobody", "metrics", "all there is"):
        for work in ("SDK loop", "five unary verbs"):
            (line,) = (x for x in finished.stdout.splitlines() if how in x and work in x)
            assert re.search(r" [0-9]+\.[0-9]{3} .* [0-9]+\.[0-9]{2} ", line)
