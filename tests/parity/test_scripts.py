"""Scripts as users write them do on a server what they do with local torch, bit for bit."""

import importlib
import inspect
from pathlib import Path

import pytest

from tests.parity import programs
from tests.parity.comparing import assert_same

FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = {
    f"{path.stem}: {name.replace('_', ' ')}": function
    for path in sorted(FOLDER.glob("*.py"))
    for name, function in inspect.getmembers(
        importlib.import_module(f"tests.parity.scripts.{path.stem}"), inspect.isfunction
    )
    if function.__module__ != programs.__name__
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_does_what_it_does_with_local_torch(name: str) -> None:
    assert_same(SCRIPTS[name])
