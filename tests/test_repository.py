"""The repository as a whole: requirements match the imports, no file contains paths of a developer's machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from core.bench.peers import PACKAGES
from core.models import MODELS
from core.paths import project_root

ROOT = project_root()
IMPORT_NAMES = {
    "axe-playwright-python": "axe_playwright_python",
    "fast-simplification": "fast_simplification",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "scikit-image": "skimage",
    "simpleitk": "SimpleITK",
}
USED_OTHERWISE = {
    "einops",
    "ruff",
    "mypy",
    "pytest-timeout",
    "pytest-cov",
    "monai",
    "pyjpegls",
    "surface-distance",
}  # tools; MONAI and surface-distance are imported by a string, pyjpegls by pydicom
OPTIONAL = ("networks", "postgres", "formats")  # requirements-NAME.txt: packages that are imported on use
PARTS_OF_STREAMLIT = {"starlette", "anyio"}  # st.App takes routes and middleware of Starlette, which runs on anyio
OURS = {"core", "ui", "pages", "app", "tests", "benchmarks", "docs"}


def requirements(path: Path) -> dict[str, str]:
    """``{name in lower case: version bounds}`` of a requirements file, without the files that it includes."""
    lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z]+\])?(.*)", line) for line in lines if line and line[0] != "-"]
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


@cache
def imported(*folders: str) -> set[str]:
    """The top-level packages of others that any file in these folders imports."""
    names: set[str] = set()
    for folder in folders:
        base = ROOT / folder
        for path in [base] if base.is_file() else base.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - OURS


def tracked_text() -> list[tuple[str, str]]:
    """Name and content of every text file tracked by git."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout: this copy has no .git folder, or git is not installed")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = []
    for name in listing.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                files.append((name, data.decode("utf-8")))
    return files


def import_names(path: Path) -> set[str]:
    return {IMPORT_NAMES.get(name, name) for name in requirements(path)} - USED_OTHERWISE


@pytest.mark.slow
def test_requirements_equal_the_imports_of_the_program() -> None:
    wanted = import_names(ROOT / "requirements.txt")
    optional = set[str]().union(*(import_names(ROOT / f"requirements-{name}.txt") for name in OPTIONAL))
    used = (
        imported("app.py", "core", "ui", "pages") - optional - requirements(ROOT / "requirements-networks.txt").keys()
    )
    assert used - wanted - PARTS_OF_STREAMLIT == set(), "imported, but not in requirements.txt"
    assert wanted - used == set(), "in requirements.txt, but not imported"


@pytest.mark.slow
def test_requirements_of_the_tests_equal_their_imports() -> None:
    wanted = import_names(ROOT / "requirements-dev.txt")
    used = imported("tests", "benchmarks")
    assert used - wanted - import_names(ROOT / "requirements.txt") - PARTS_OF_STREAMLIT == set(), (
        "not in requirements-dev.txt"
    )
    assert wanted - used == set(), "in requirements-dev.txt, but not imported"


def test_requirements_and_pyproject_agree() -> None:
    ours = requirements(ROOT / "requirements.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    theirs = {match[1].lower(): match[2] for line in project if (match := re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", line))}
    assert ours.keys() == theirs.keys()
    assert ours["torch"] == "==2.13.0" and theirs["torch"] == ">=2.11,<2.14"
    assert ours["streamlit"].startswith("==")
    for name in ours.keys() - {"torch", "streamlit"}:
        assert ours[name] == theirs[name], name
        assert re.fullmatch(r">=[\d.]+,<[\d.]+", ours[name]), f"{name} needs a lower and an upper bound"


@pytest.mark.slow
def test_requirements_of_the_benchmarks_are_the_peers() -> None:
    """The peers are imported by name, only when a benchmark uses them."""
    wanted = requirements(ROOT / "requirements-bench.txt")
    assert wanted.keys() == set(PACKAGES)
    assert all(re.fullmatch(r"==[\d.]+", bounds) for bounds in wanted.values()), "figures belong to exact versions"
    assert "-r requirements.txt" in (ROOT / "requirements-bench.txt").read_text("utf-8").splitlines()
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["bench"]
    assert dict(line.split("==") for line in extra) == {name: bounds[2:] for name, bounds in wanted.items()}
    assert requirements(ROOT / "requirements-dev.txt")["monai"] == wanted["monai"]
    optional_networks = requirements(ROOT / "requirements-networks.txt").keys()
    assert not imported("app.py", "core", "ui", "pages") & set(PACKAGES) - optional_networks


def test_requirements_of_the_optional_networks_agree() -> None:
    wanted = requirements(ROOT / "requirements-networks.txt")
    assert wanted.keys() == {name for entry in MODELS.values() for name in entry.packages}
    assert "torch" not in wanted and "-r requirements.txt" in (ROOT / "requirements-networks.txt").read_text("utf-8")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["networks"]
    assert sorted(extra) == sorted(name + bounds for name, bounds in wanted.items())
    dev = requirements(ROOT / "requirements-dev.txt")
    assert {name: dev[name] for name in wanted} == wanted


def test_no_file_contains_a_path_of_a_developers_machine() -> None:
    pattern = re.compile(r"(?<![\w.-])/(work|home/\w|Users/\w|root|tmp/w)/[\w.]")
    here = Path(__file__).relative_to(ROOT).as_posix()
    wrong = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_text()
        if name != here
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not wrong, wrong


def test_text_files_are_clean() -> None:
    files = [(name, text) for name, text in tracked_text() if text and not name.startswith("tests/fixtures/")]
    assert not [name for name, text in files if "\r" in text], "line ends must be \\n"
    assert not [name for name, text in files if not text.endswith("\n")], "the last line must end"


def test_requirements_of_the_database_agree() -> None:
    wanted = requirements(ROOT / "requirements-postgres.txt")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["postgres"]
    assert extra == [f"psycopg[binary]{wanted['psycopg']}"]
    assert requirements(ROOT / "requirements-dev.txt")["psycopg"] == wanted["psycopg"]
