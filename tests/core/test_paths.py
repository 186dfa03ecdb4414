"""Where things are kept: what was chosen, else the environment, else a folder beside the program."""

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
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder and a working folder of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("SEGMENTARIUM_CHECKPOINTS", "SEGMENTARIUM_DATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_project_is_where_the_app_is() -> None:
    assert (project_root() / "app.py").is_file()
    assert project_root().is_absolute()


@pytest.mark.parametrize(("root", "variable", "default"), ROOTS)
def test_what_was_chosen_then_the_environment_then_the_default(
    root: Root, variable: str, default: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert root(None) == project_root() / default
    monkeypatch.setenv(variable, "")
    assert root(None) == root("") == project_root() / default
    monkeypatch.setenv(variable, str(elsewhere / "set"))
    assert root(None) == root("") == elsewhere / "set"
    assert root(str(elsewhere / "chosen")) == elsewhere / "chosen"


@pytest.mark.parametrize(("root", "variable", "default"), ROOTS)
def test_home_and_relative_folders(
    root: Root, variable: str, default: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert root("~/mine") == elsewhere / "home" / "mine"
    assert root("mine/of") == elsewhere / "here" / "mine" / "of"
    assert root("~nobody-of-this-name/x") == elsewhere / "here" / "~nobody-of-this-name" / "x"
    monkeypatch.setenv(variable, "~")
    assert root(None) == elsewhere / "home"
    monkeypatch.setenv(variable, "mine")
    assert root(None) == elsewhere / "here" / "mine"


def test_the_environment_is_read_when_asked(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(elsewhere / "one"))
    assert demo_folder() == elsewhere / "one" / DEMO
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(elsewhere / "two"))
    assert demo_folder() == elsewhere / "two" / DEMO


def test_the_folder_of_a_data_set(elsewhere: Path) -> None:
    assert dataset_folder(DEMO) == demo_folder() == project_root() / "data" / DEMO
    assert dataset_folder("./demo") == elsewhere / "here" / "demo"
    assert dataset_folder("~/Task04") == elsewhere / "home" / "Task04"
    assert dataset_folder(str(elsewhere)) == elsewhere


def test_nothing_is_made() -> None:
    for root in (checkpoints_root, data_root):
        assert not root("never-made").exists()
