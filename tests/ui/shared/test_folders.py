"""The data root: data sets are found in it, and paths cannot leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import DatasetError
from ui.shared import folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return root


@pytest.mark.parametrize("text", ["mine", "./mine", "mine/../mine/deep", " mine "])
def test_path_inside_root_is_resolved(root: Path, text: str) -> None:
    assert folders.resolve_inside(root, text).is_relative_to(root)


def test_absolute_path_inside_root_is_resolved(root: Path) -> None:
    assert folders.resolve_inside(root, str(root / "mine")) == root / "mine"


@pytest.mark.parametrize("text", ["..", "../outside", "mine/../../outside", "/", "/etc", "~", "../data-2"])
def test_path_outside_root_is_refused(root: Path, text: str) -> None:
    with pytest.raises(DatasetError, match="inside"):
        folders.resolve_inside(root, text)


def test_sibling_folder_with_common_prefix_is_refused(root: Path) -> None:
    (root.parent / "data-2").mkdir()
    with pytest.raises(DatasetError, match="inside"):
        folders.resolve_inside(root, str(root.parent / "data-2"))


@pytest.mark.parametrize("text", ["nothing-here", "x" * 5000, "a\0b"])
def test_missing_folder_is_refused(root: Path, text: str) -> None:
    with pytest.raises(DatasetError, match="found none at"):
        folders.resolve_inside(root, text)


def test_symbolic_link_in_root_is_followed(root: Path) -> None:
    (root / "linked").symlink_to(root.parent / "outside")
    assert folders.resolve_inside(root, "linked") == root / "linked"


def test_only_data_sets_are_found(root: Path, test_data: Path) -> None:
    (root / "mine" / "Task04").symlink_to(test_data / "Task04_Hippocampus")
    assert [folders.display_name(root, p) for p in folders.find_datasets(root)] == ["mine/Task04"]


def test_missing_root_has_no_data_sets(tmp_path: Path) -> None:
    assert folders.find_datasets(tmp_path / "no") == []
