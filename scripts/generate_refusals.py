"""Writes into docs/security.md what the catalog refuses and what it guards, with the reasons.

With --check, changes nothing and fails if the page has something else.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import catalog_review as review
from gradwire.v1 import catalog

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
BEGIN = "<!-- refused and guarded: make catalog -->\n"
END = "<!-- end of refused and guarded -->\n"


def table(title: str, reasons: Mapping[str, str]) -> str:
    """Returns names by reason as a table in Markdown, in the order of the review."""
    names_of: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_of.setdefault(reason, []).append(f"`{name.removeprefix('torch.')}`")
    rows = [f"| {reason} | {' '.join(names)} |" for reason, names in names_of.items()]
    return "\n".join([f"| {title} | names |", "|---|---|", *rows, ""])


def main() -> None:
    """Writes or checks the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{PAGE.relative_to(ROOT)} lacks the lines between which the tables belong")
    tables = (
        table("refused, since", review.REFUSED),
        table("allowed, but checked before torch is called", catalog.GUARDED),
    )
    written = before + BEGIN + "\n" + "\n".join(tables) + "\n" + END + after
    if check and written != page:
        sys.exit(f"{PAGE.relative_to(ROOT)} differs from the catalog; run: make catalog")
    if not check:
        PAGE.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
