"""The benchmarks run from end to end. How fast things are is not for a test to say."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gradwire_benchmarks.curves import CURVES
from gradwire_benchmarks.lines import LINES
from gradwire_benchmarks.report import Report
from gradwire_benchmarks.table import BEGIN, END, markdown

PNG = b"\x89PNG\r\n\x1a\n"


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        # The servers are the benchmarks' own.
        env={**os.environ, "GRADWIRE_ADDRESS": "grpcs://nowhere:1", "GRADWIRE_CA_FILE": "/none"},
    )


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return run("gradwire_server", "bench", *arguments)


@pytest.mark.timeout(240)
def test_a_quick_look_fills_every_line(tmp_path: Path) -> None:
    results, plot, page = (tmp_path / name for name in ("results.json", "plot.png", "page.md"))
    page.write_text(f"{BEGIN}\n{END}\n")

    finished = bench(
        *("--quick", "--net", "notebook", "--json", str(results)),
        *("--plot", str(plot), "--markdown", str(page)),
    )

    assert finished.returncode == 0, finished.stderr
    written = json.loads(results.read_text())
    without_ray = {} if find_spec("ray") else {"actors": "Ray is not installed"}
    assert written["left_out"].keys() == without_ray.keys()
    assert [(result["number"], result["work"]) for result in written["results"]] == [
        (line.number, line.work) for line in LINES if line.suite not in without_ray
    ]
    for result in written["results"]:
        is_none = result["work"] == "modules of torch that this loads"
        assert (result["own"]["median"] > 0) != is_none
        assert result["value"]["low"] <= result["value"]["median"] <= result["value"]["high"]
    assert set(written["rounds"]) == {line.suite for line in LINES}
    assert {"torch", "grpcio"} <= set(written["machine"]["versions"].split())
    assert "threads" in written["machine"]["worker"]
    assert plot.read_bytes().startswith(PNG)
    assert markdown(Report.read(results)) in page.read_text()


@pytest.mark.timeout(240)
def test_a_quick_look_draws_every_curve(tmp_path: Path) -> None:
    results = tmp_path / "results.json"

    finished = bench(
        *("--quick", "--line", "1", "--net", "notebook"),
        *("--curves", str(tmp_path), "--json", str(results)),
    )

    assert finished.returncode == 0, finished.stderr
    curves = Report.read(results).curves
    assert {name: len(points) for name, points in curves.items()} == {
        curve.name: 2 for curve in CURVES
    }
    for curve in CURVES:
        assert (tmp_path / curve.picture).read_bytes().startswith(PNG)


def test_results_of_an_earlier_run_are_shown_again(tmp_path: Path) -> None:
    results, again = tmp_path / "results.json", tmp_path / "again.json"
    assert bench("--quick", "--line", "11", "--json", str(results)).returncode == 0

    finished = bench("--from", str(results), "--json", str(again))

    assert finished.returncode == 0, finished.stderr
    assert "import gradwire" in finished.stdout
    assert again.read_text() == results.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--line", "13"), "there is no line 13; there are 1 to 12"),
        (("--net", "ResNet"), '"ResNet" is none of the nets: notebook 3-5-1, digits'),
        (("--from", "/nonexistent"), "No such file or directory: '/nonexistent'"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(
    arguments: tuple[str, ...], message: str
) -> None:
    finished = bench(*arguments)

    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_quick_look_at_what_watching_costs_has_a_line_for_each_way_and_work() -> None:
    finished = run("gradwire_benchmarks.observing", "--quick")

    assert finished.returncode == 0, finished.stderr
    for how in ("nobody", "metrics", "all there is"):
        for work in ("SDK loop", "five unary verbs"):
            (line,) = (x for x in finished.stdout.splitlines() if how in x and work in x)
            assert re.search(r" [0-9]+\.[0-9]{3} .* [0-9]+\.[0-9]{2} ", line)
