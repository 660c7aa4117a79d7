import os
import sys
import termios
from contextlib import suppress
from typing import Any

import pytest

from gradwire.bar import ProgressBar
from gradwire.history import History
from gradwire.v1 import runs_pb2

EVENTS: list[dict[str, Any]] = [
    {"started": runs_pb2.RunStarted(num_steps=1000, num_epochs=4, device="cpu")},
    {
        "progress": runs_pb2.RunProgress(
            epoch=2,
            step=500,
            mean_loss=0.3388,
            elapsed_seconds=12,
            remaining_seconds=12,
            samples_per_second=12_345,
        )
    },
    {
        "validation": runs_pb2.RunValidation(
            values={"f1": 0.968, "validation_loss": 0.3061, "accuracy": 0.9681, "auroc": 0.996}
        )
    },
]


def shown(columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns what a terminal shows of a run, the last line of it."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        history = History()
        with ProgressBar() as bar:
            for number, event in enumerate(EVENTS, start=1):
                history.add(told := runs_pb2.RunEvent(number=number, **event))
                bar.update(told, history)
    text = b""
    # The kernel hands over in pieces; at the end, reading fails.
    with suppress(OSError):
        while piece := os.read(ours, 1 << 16):
            text += piece
    os.close(ours)
    return text.decode().rstrip().rpartition("\r")[2]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (60, "epoch 2/4, loss 0.339]"),
        (80, "epoch 2/4, loss 0.339, accuracy 0.968, 12.3k/s]"),
        (100, "500/1000 [00:12<00:12, epoch 2/4, loss 0.339, accuracy 0.968, 12.3k/s]"),
        (120, "epoch 2/4, loss 0.3388, accuracy 0.9681, 12.3k samples/s]"),
        (180, "val loss 0.3061, accuracy 0.9681, auroc 0.996, f1 0.968, 12.3k samples/s]"),
    ],
)
def test_a_bar_says_what_its_terminal_has_room_for(
    columns: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = shown(columns, monkeypatch)
    assert line.endswith(told)
    assert len(line) < columns
    _, bar, _ = line.split("|")
    assert len(bar) >= 5
    assert bar.strip()


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    with ProgressBar() as bar:
        for number, event in enumerate(EVENTS, start=1):
            history.add(told := runs_pb2.RunEvent(number=number, **event))
            bar.update(told, history)
    assert capsys.readouterr() == ("", "")
