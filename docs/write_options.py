"""Writes the table of all fields in options.md from the configuration: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("options.md")

sys.path.insert(0, str(PAGE.parents[1]))

from core.config import field_specs, section_titles  # noqa: E402
from core.fields import FieldSpec  # noqa: E402
from core.presets import PRESETS  # noqa: E402
from docs.marked_part import replace_part  # noqa: E402


def values_of(spec: FieldSpec) -> str:
    """The values a field accepts: choices, or type, range and unit."""
    if spec.choices:
        return ", ".join(f"`{choice}`" for choice in spec.choices)
    if spec.type is bool:
        return "`true`, `false`"
    kind = {int: "whole number", float: "number", str: "text"}[spec.item_type or spec.type]
    if spec.item_type is not None:
        kind = f"{spec.length or ''} {kind}s".strip() if spec.item_type is not str else "list of names"
    if spec.minimum is not None and spec.maximum is not None:
        kind += f", {spec.minimum:.10g} to {spec.maximum:.10g}"
    elif spec.minimum is not None:
        kind += f", {spec.minimum:.10g} or more"
    return f"{kind} [{spec.unit}]" if spec.unit else kind


def table() -> str:
    """One Markdown table per section, a line per field."""
    lines = []
    for section, (title, sentence) in section_titles().items():
        lines += [
            f"### {title}",
            sentence,
            "",
            "| Flag | On the Train page | Meaning | Values | Default | Presets |",
            "|---|---|---|---|---|---|",
        ]
        for spec in field_specs():
            if spec.section == section:
                default = spec.format(spec.default)
                by_preset = {name: spec.format(v[spec.name]) for name, v in PRESETS.items() if spec.name in v}
                presets = ", ".join(f"{name}: {text}" for name, text in by_preset.items() if text != default)
                flag = "`DATA`" if spec.name == "path" else f"`{spec.flag}`"
                cells = (flag, spec.label, spec.help, values_of(spec), f"`{default}`" if default else "", presets)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def page_with_table(page: str) -> str:
    """The page with a new table of fields."""
    return replace_part(page, "fields", table())


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
