"""Folders of runs and data sets: argument, environment variable, default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.paths import DEMO, checkpoints_root, data_root, dataset_folder, demo_folder, project_root

ROOTS = [
    pytest.param(checkpoints_root, "SEGMENTARIUM_CHECKPOINTS", "checkpoints", id="checkpoints"),
    pytest.param(data_root, "SEGMENTARIUM_DATA", "data", id="data"),
]
Root = Callable[[str | None], Path]


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home and working folder of the test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for name in ("SEGMENTARIUM_CHECKPOINTS", "SEGMENTARIUM_DATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_project_root_contains_the_app() -> None:
    assert (project_root() / "app.py").is_file()
    assert project_root().is_absolute()


@pytest.mark.parametrize(("root", "variable", "default"), ROOTS)
def test_argument_precedes_environment_precedes_default(
    root: Root, variable: str, default: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert root(None) == project_root() / default
    monkeypatch.setenv(variable, "")
    assert root(None) == root("") == project_root() / default
    monkeypatch.setenv(variable, str(sandbox / "from-environment"))
    assert root(None) == root("") == sandbox / "from-environment"
    assert root(str(sandbox / "from-argument")) == sandbox / "from-argument"


@pytest.mark.parametrize(("root", "variable", "default"), ROOTS)
def test_home_and_relative_paths_become_absolute(
    root: Root, variable: str, default: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert root("~/mine") == sandbox / "home" / "mine"
    assert root("mine/of") == sandbox / "cwd" / "mine" / "of"
    assert root("~unknown-user/x") == sandbox / "cwd" / "~unknown-user" / "x"
    monkeypatch.setenv(variable, "~")
    assert root(None) == sandbox / "home"
    monkeypatch.setenv(variable, "mine")
    assert root(None) == sandbox / "cwd" / "mine"


def test_environment_is_read_at_each_call(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(sandbox / "one"))
    assert demo_folder() == sandbox / "one" / DEMO
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(sandbox / "two"))
    assert demo_folder() == sandbox / "two" / DEMO


def test_dataset_folder_of_demo_and_of_paths(sandbox: Path) -> None:
    assert dataset_folder(DEMO) == demo_folder() == project_root() / "data" / DEMO
    assert dataset_folder("./demo") == sandbox / "cwd" / "demo"
    assert dataset_folder("~/Task04") == sandbox / "home" / "Task04"
    assert dataset_folder(str(sandbox)) == sandbox


def test_folders_are_not_created() -> None:
    for root in (checkpoints_root, data_root):
        assert not root("never-made").exists()
