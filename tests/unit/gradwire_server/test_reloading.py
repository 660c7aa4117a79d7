from pathlib import Path

import pytest

from gradwire_server.reloading import Reloaded


def reloaded(path: Path) -> "Reloaded[int]":
    return Reloaded("numbers", (path,), lambda: int(path.read_text()), check_seconds=0)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    number = reloaded(path)
    assert number.value == 1
    path.write_text("22")
    assert number.value == 22


def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    for content in ("1", "2"):
        (tmp_path / content).write_text(content)
    path = tmp_path / "number"
    path.symlink_to("1")
    number = reloaded(path)
    assert number.value == 1
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(path)
    assert number.value == 2


def test_what_was_read_stays_while_the_file_is_unusable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    number = reloaded(path)
    path.write_text("one")
    assert [number.value, number.value] == [1, 1]
    assert capsys.readouterr().out.count("not reloaded") == 1
    path.unlink()
    assert number.value == 1
    path.write_text("333")
    assert number.value == 333


def test_a_file_that_is_unusable_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        reloaded(tmp_path / "absent")


def test_it_does_not_look_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    number = Reloaded("numbers", (path,), lambda: int(path.read_text()), check_seconds=3600)
    path.write_text("22")
    assert number.value == 1
