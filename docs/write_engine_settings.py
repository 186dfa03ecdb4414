"""Writes the tables of the settings of each kind of cluster in clusters.md from their fields: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("clusters.md")

sys.path.insert(0, str(PAGE.parents[1]))

from core.fields import specs_of  # noqa: E402
from core.runs.engines.settings import KINDS  # noqa: E402
from docs.marked_part import replace_part  # noqa: E402
from docs.write_options import values_of  # noqa: E402


def table(settings: type) -> str:
    """A line for each setting, those of the kind of cluster first."""
    specs = specs_of(settings, section="")
    own = [spec for spec in specs if spec.name in settings.__annotations__]
    lines = ["| Setting | Meaning | Values | Default |", "|---|---|---|---|"]
    for spec in [*own, *(spec for spec in specs if spec not in own)]:
        default = spec.format(spec.default)
        lines.append(f"| `{spec.name}` | {spec.help} | {values_of(spec)} | {f'`{default}`' if default else ''} |")
    return "\n".join(lines) + "\n"


def page_with_table(page: str) -> str:
    """The page with new tables of settings."""
    for kind, settings in KINDS.items():
        page = replace_part(page, f"settings of {kind}", table(settings))
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
