"""The documents: generated parts are up to date, links and file names exist, commands exist."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from core import __version__, disk_cache
from core.cli import COMMANDS
from core.cli.options import add_config_flags
from core.config import field_specs
from core.datasets import uploaded_sets
from core.imaging import bounded_io
from core.paths import project_root
from core.runs.store import folder as run_folder

ROOT = project_root()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def write_options() -> ModuleType:
    return script("write_options")


@pytest.fixture(scope="module")
def write_architecture() -> ModuleType:
    return script("write_architecture")


def test_table_of_fields_is_up_to_date(write_options: ModuleType) -> None:
    page = write_options.PAGE.read_text("utf-8")
    assert page == write_options.page_with_table(page), "docs/options.md is out of date: run `make docs`"
    assert all(f"`{spec.flag}`" in page for spec in field_specs() if spec.name != "path")


def test_limits_of_sizes_are_listed_with_their_defaults() -> None:
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    for limit in (bounded_io.LIMIT, uploaded_sets.LIMIT, disk_cache.LIMIT):
        (row,) = re.findall(rf"^\| `{limit.variable}` \|.*$", page, re.MULTILINE)
        assert limit.unit in row and row.endswith(f"| {limit.default} |"), row


def test_tables_of_layouts_patterns_and_repairs_are_up_to_date() -> None:
    write_layouts = script("write_layouts")
    page = write_layouts.PAGE.read_text("utf-8")
    assert page == write_layouts.page_with_table(page), "docs/data.md is out of date: run `make docs`"
    with pytest.raises(ValueError, match="layouts: made by"):
        write_layouts.page_with_table("a page without marks")


def test_table_of_the_settings_of_a_cluster_is_up_to_date() -> None:
    write_settings = script("write_engine_settings")
    page = write_settings.PAGE.read_text("utf-8")
    assert page == write_settings.page_with_table(page), "docs/clusters.md is out of date: run `make docs`"


def test_flags_for_the_options_of_the_script_exist(write_options: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    known = {flag for action in parser._actions for flag in action.option_strings} | {"--checkpoints"}
    rows = [
        row for row in write_options.PAGE.read_text("utf-8").partition("## All fields")[0].splitlines() if "|" in row
    ]
    named = {flag for row in rows for flag in re.findall(r"--[a-z][a-z-]*", row.split("|")[2])}
    assert len(rows) > 20 and named
    assert named <= known, named - known


@pytest.mark.slow
def test_tree_of_the_architecture_is_up_to_date_and_complete(write_architecture: ModuleType) -> None:
    page = write_architecture.PAGE.read_text("utf-8")
    assert page == write_architecture.page_with_tree(page), "docs/architecture.md is out of date: run `make docs`"
    lines = page.partition("## The tree")[2].splitlines()
    files = [p for layer in ("core", "ui", "pages", "benchmarks") for p in (ROOT / layer).rglob("*.py")]
    for path in files:
        if path.name != "__init__.py":
            described = [line for line in lines if line.split() and line.split()[0] == path.name]
            assert any(len(line.split()) > 3 for line in described), f"{path} has no line in the tree"


@pytest.mark.slow
def test_picture_of_the_layers_is_up_to_date(write_architecture: ModuleType) -> None:
    assert write_architecture.PICTURE.read_text("utf-8") == write_architecture.picture(), "run `make docs`"


def test_layers_name_every_folder_of_core() -> None:
    layers = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## How")[0]
    folders = {path.parent for pattern in ("*/*.py", "runs/*/*.py") for path in (ROOT / "core").glob(pattern)}
    names = [folder.relative_to(ROOT).as_posix() for folder in folders]
    assert len(names) > 20 and not (missing := [name for name in names if f"`{name}`" not in layers]), missing


def test_page_of_the_run_folder_names_every_file() -> None:
    names = re.findall(r"^``([a-z]\S*)``  ", run_folder.__doc__ or "", re.MULTILINE)
    page = (ROOT / "docs" / "run-folder.md").read_text("utf-8")
    assert len(names) > 12 and not (missing := [name for name in names if f"| `{name}` |" not in page]), missing


@pytest.mark.slow
def test_commands_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/write_commands.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"docs/commands.md is out of date: run `make docs`\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_named_in_the_documentation_exist(page: Path) -> None:
    named = re.findall(r"`((?:core|ui|pages|tests|benchmarks|docs)/[\w/.-]*)`", page.read_text("utf-8"))
    assert not (missing := [name for name in named if not (ROOT / name).exists()]), missing


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not (lost := [name for name in sorted(pages) if f"({name})" not in index]), lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_linked_files_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_pages_show_commands_and_make_targets_that_exist() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    shown = set(re.findall(r"(?:python -m core|^segmentarium|`segmentarium) ([a-z]+)", text, re.MULTILINE))
    assert shown >= {"demo", "check", "train", "submit", "runs", "predict", "evaluate"}
    assert shown <= set(COMMANDS), shown - set(COMMANDS)
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE)) <= targets


def test_versions_agree() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_tests_that_the_page_on_data_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "data.md").read_text("utf-8")))
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    }
    assert len(named) > 15 and named <= defined, named - defined
