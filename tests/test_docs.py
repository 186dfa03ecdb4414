"""What the documents promise: tables that match the code, names of every file, links that lead somewhere."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from core import __version__
from core.cli import COMMANDS
from core.cli.options import add_config_flags
from core.config import field_specs
from core.paths import project_root

ROOT = project_root()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


@pytest.fixture(scope="module")
def write_options() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_options", ROOT / "docs" / "write_options.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_fields_is_up_to_date(write_options: ModuleType) -> None:
    page = write_options.PAGE.read_text("utf-8")
    assert page == write_options.page_with_table(page), "docs/options.md is out of date: run `make docs`"
    assert all(f"`{spec.flag}`" in page for spec in field_specs() if spec.name != "path")


def test_options_of_the_script_lead_to_flags_that_exist(write_options: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    known = {flag for action in parser._actions for flag in action.option_strings} | {"--checkpoints"}
    rows = [
        row for row in write_options.PAGE.read_text("utf-8").partition("## All fields")[0].splitlines() if "|" in row
    ]
    named = {flag for row in rows for flag in re.findall(r"--[a-z][a-z-]*", row.split("|")[2])}
    assert len(rows) > 20 and named
    assert named <= known, named - known


def test_readme_names_every_file() -> None:
    """The tree is indented: a file belongs to the last folder that was named above it with less indentation."""
    readme = (ROOT / "README.md").read_text("utf-8")
    tree = readme.partition("## What is where")[2].partition("```")[2].partition("```")[0]
    named: set[str] = set()
    above: list[tuple[int, str]] = []
    for line in tree.splitlines():
        if line.strip():
            indent = len(line) - len(line.lstrip())
            while above and above[-1][0] >= indent:
                above.pop()
            folder = above[-1][1] if above else ""
            names = line.strip().split("  ")[0]
            if names.endswith("/"):
                above.append((indent, folder + names))
            named |= {folder + name.strip() for name in names.split(",")}
    files = {
        path.relative_to(ROOT).as_posix()
        for layer in ("core", "ui", "pages", "benchmarks")
        for path in (ROOT / layer).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert files, "nothing found to name"
    assert not files - named, f"the tree in README.md lacks {sorted(files - named)}"
    assert not (gone := [n for n in named if not (ROOT / n).exists()]), f"the tree in README.md names {sorted(gone)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_readme_shows_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = set(re.findall(r"python -m core ([a-z]+)", readme))
    assert shown >= {"demo", "check", "train", "submit", "runs", "predict", "evaluate"}
    assert shown <= set(COMMANDS), shown - set(COMMANDS)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", readme, re.MULTILINE)) <= targets


def test_versions_agree() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
