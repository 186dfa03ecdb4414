"""Writes the tables of known data sets, of the pattern language and of repairs in data.md: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("data.md")

sys.path.insert(0, str(PAGE.parents[1]))

from core.datasets.folder_description import pattern_lines  # noqa: E402
from core.datasets.layouts.known_sets import known_sets  # noqa: E402
from core.datasets.layouts.patterns import language_table  # noqa: E402
from core.datasets.layouts.recipe import REPAIRS  # noqa: E402
from core.datasets.layouts.set_description import SetDescription  # noqa: E402
from core.datasets.repairs import OFFERED  # noqa: E402
from docs.marked_part import replace_part  # noqa: E402


def table() -> str:
    """A line for each known data set."""
    lines = ["| Layout | Data set | Images | Label maps | Verified |", "|---|---|---|---|---|"]
    lines += [line_of(described) for described in known_sets().values()]
    return "\n".join(lines) + "\n"


def line_of(described: SetDescription) -> str:
    """Name with variants, title, first patterns, and what was verified."""
    names = ", ".join(f"`{n}`" for n in (described.name, *(f"{described.name}/{v}" for v in described.variants)))
    patterns = [pattern_lines(described.content.get(key, "")).splitlines() for key in ("images", "labels")]
    first = [f"`{lines[0]}`" if lines else "none" for lines in patterns]
    if described.flag("dicom"):
        first = ["series, by their UID", "SEG or RTSTRUCT that refer to them"]
    cells = (names, described.title, *first, described.text("verified"))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def repairs_table() -> str:
    """A line for each kind of repair."""
    lines = ["| Repair | Effect | Offered where |", "|---|---|---|"]
    lines += [f"| {text.title} | {text.effect} | {OFFERED[kind]} |" for kind, text in REPAIRS.items()]
    return "\n".join(lines) + "\n"


def page_with_table(page: str) -> str:
    """The page with new tables of known data sets, of the pattern language and of repairs."""
    parts = {"layouts": table(), "patterns": language_table(), "repairs": repairs_table()}
    for name, text in parts.items():
        page = replace_part(page, name, text)
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
