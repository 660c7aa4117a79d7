"""Writes the table of settings into docs/operations.md, from the settings themselves.

With --check, changes nothing and fails if the table there is another one.
"""

import argparse
import os
import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gradwire_server.config import ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operations.md"
BEGIN = "<!-- settings: make settings -->\n"
END = "<!-- end of settings -->\n"

UNITS = {
    "_per_second": "1/s",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_file": "path",
}
"""Units, by how names end."""


def unit(name: str) -> str:
    """Returns the unit of a setting; empty if it has none."""
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def default(field: FieldInfo) -> str:
    """Returns the default of a setting as one would write it."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or isinstance(value, SecretStr) or value in ("", {}, ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def table() -> str:
    """Returns the settings as a table in Markdown."""
    # The defaults of a user whose home nobody needs to know.
    os.environ["XDG_DATA_HOME"] = "~/.local/share"
    rows = [
        f"| `{name}` | {default(field)} | {unit(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| setting | default | unit | what it is |", "|---|---|---|---|", *rows, ""])


def main() -> None:
    """Writes or checks the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        del os.environ[name]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{PAGE.relative_to(ROOT)} lacks the lines between which the settings belong")
    written = before + BEGIN + "\n" + table() + "\n" + END + after
    if check and written != page:
        sys.exit(f"{PAGE.relative_to(ROOT)} has other settings than the server; run: make settings")
    if not check:
        PAGE.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
