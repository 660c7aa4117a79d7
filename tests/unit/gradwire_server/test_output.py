import pytest
from rich.console import Console
from rich.table import Table

from gradwire_server.commands.output import print_table


@pytest.mark.parametrize(
    ("columns", "there"),
    [
        (120, ["run", "state", "time", "created"]),
        (40, ["run", "state", "time"]),
        (30, ["run", "state"]),
        (24, ["run", "state"]),
    ],
)
def test_a_narrow_terminal_is_shown_what_matters_most(
    columns: int,
    there: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gradwire_server.commands.output.console", lambda: Console(width=columns))
    table = Table("run", "state", "time", "created")
    table.add_row("b9c3e9f0c411", "SUCCEEDED", "0:00", "2026-11-25")
    print_table(table, least=("created", "time"))
    shown = capsys.readouterr().out
    assert all(header in shown for header in there)
    assert sum(header in shown for header in ("run", "state", "time", "created")) == len(there)
    assert "b9c3e9f0c411" in shown
