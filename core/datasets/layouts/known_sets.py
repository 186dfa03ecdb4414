"""The known data sets: the descriptions of ``known_sets.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from core.datasets.layouts.described_layout import DescribedLayout
from core.datasets.layouts.set_description import SetDescription, parse_description

FILE = Path(__file__).with_name("known_sets.toml")


@cache
def known_sets() -> dict[str, SetDescription]:
    """Descriptions by name, named data sets before general kinds of folders."""
    content = tomllib.loads(FILE.read_text("utf-8"))
    found = [parse_description(name, table) for name, table in content.items()]
    return {d.name: d for d in sorted(found, key=lambda d: d.flag("general"))}


@cache
def known_layouts() -> dict[str, DescribedLayout]:
    """Layouts of the known data sets by name."""
    return {name: DescribedLayout(description) for name, description in known_sets().items()}
