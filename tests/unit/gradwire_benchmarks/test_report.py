from pathlib import Path

import pytest

from gradwire_benchmarks.lines import Measured
from gradwire_benchmarks.report import Report
from gradwire_benchmarks.table import BEGIN, END, markdown, renew_page

DOCS = Path(__file__).resolve().parents[3] / "docs"

REPORT = Report(
    machine={"processor": "one, 2 cores"},
    measured=Measured(
        rounds={
            "training": {
                "notebook 3-5-1": [
                    {"sdk loop/100": 0.001, "local loop": 0.002},
                    {"sdk loop/100": 0.001, "local loop": 0.003},
                ]
            },
            "memory": {"1,000 sessions": [{"session": 70 * 1024.0, "state": 1024.0}]},
            "starting": {"fresh process": [{"torch modules": 0.0}]},
        },
        left_out={"actors": "Ray is not installed"},
    ),
    curves={"bytes": {1000: [{"trip": 0.002, "echo": 0.001}]}},
)


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "folder" / "report.json")

    assert Report.read(tmp_path / "folder" / "report.json") == REPORT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}'])
def test_a_file_of_something_else_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"other\.json has no results of `gradwire bench`"):
        Report.read(path)


def test_a_page_gets_the_table_between_its_marks_as_often_as_wanted(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")

    renew_page(page, REPORT)
    once = page.read_text()
    renew_page(page, REPORT)

    assert page.read_text() == once
    assert once == f"before\n\n{BEGIN}\n\n{markdown(REPORT)}\n\n{END}\n\nafter\n"


def test_the_table_says_what_was_compared_and_whether_the_goal_is_reached() -> None:
    lines = markdown(REPORT).splitlines()

    assert lines[0] == "processor: one, 2 cores."
    assert (
        "| 1 | SDK loop, loss every 100 steps | notebook 3-5-1 | 1 ms | local eager loop | 2.5 ms "
        "| 2.5x (2.25 to 2.75) | ≥ 1x | yes |"
    ) in lines
    assert (
        "| 10 | worker's memory per idle session | 1,000 sessions | 70 KiB "
        "| parameters and optimizer | 1 KiB | 69 KiB | ≤ 64 KiB | no |"
    ) in lines
    assert (
        "| 11 | modules of torch that this loads | fresh process | 0 | none |  | 0 | ≤ 0 | yes |"
        in lines
    )
    assert "Line 5 is left out: Ray is not installed." in lines
    assert lines[-1].endswith("(benchmark-bytes.png)")


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")

    with pytest.raises(ValueError, match=r"page\.md has no lines <!-- figures"):
        renew_page(page, REPORT)

    assert page.read_text() == "nothing"


def test_the_page_of_the_docs_has_a_place_for_the_table(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((DOCS / "performance.md").read_text())

    renew_page(page, REPORT)

    assert markdown(REPORT) in page.read_text()


def test_the_figures_of_the_docs_are_those_of_the_file_beside_them() -> None:
    results = DOCS / "benchmarks.json"
    if not results.exists():
        pytest.skip("make bench-docs has not been run yet")

    assert markdown(Report.read(results)) in (DOCS / "performance.md").read_text()
