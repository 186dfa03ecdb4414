"""Registry of layouts: recognition, precedence of a named layout, errors for folders without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.datasets import open_dataset
from core.datasets.layouts.base import natural_key
from core.datasets.recognition import CODED
from core.errors import DatasetError
from core.paths import project_root
from tests.support.known_folders import EXAMPLES
from tests.support.volume_files import make_decathlon, make_iseg


def test_coded_layouts_recognise_their_own_examples_only(tmp_path: Path) -> None:
    for name in CODED:
        folder = EXAMPLES[name](tmp_path / name)
        assert [layout.name for layout in CODED.values() if layout.recognises(folder)] == [name]
        assert open_dataset(folder).layout == CODED[name].open(folder).layout == name


def test_path_may_be_text_with_spaces_and_umlauts(tmp_path: Path) -> None:
    assert open_dataset(str(make_iseg(tmp_path / "a ü" / "iseg"))).layout == "iseg"


def test_named_layout_is_not_replaced_by_a_recognised_one(tmp_path: Path) -> None:
    folder = make_iseg(tmp_path / "iseg")
    with pytest.raises(DatasetError, match=r"found no dataset\.json"):
        open_dataset(folder, "decathlon")
    with pytest.raises(DatasetError, match=r"expected auto or one of iseg, nnunet, decathlon, .*; got 'nifti'"):
        open_dataset(folder, "nifti")


def test_missing_or_invalid_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, match in (
        (tmp_path / "none", "found nothing there"),
        (tmp_path / "file", "got a file"),
        ("", "got nothing"),
        ("a\0b", "found nothing there|cannot be opened"),
        ("x" * 5000, "cannot be opened|found nothing there"),
    ):
        with pytest.raises(DatasetError, match=match):
            open_dataset(path)


def test_unknown_folder_names_what_was_tried(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="got an empty folder") as caught:
        open_dataset(tmp_path / "empty")
    assert all(f"{name}: {layout.expects}" in str(caught.value) for name, layout in CODED.items())
    (tmp_path / "empty" / "picture.png").write_text("")
    with pytest.raises(DatasetError, match=r"got picture\.png"):
        open_dataset(tmp_path / "empty")


def test_neighbouring_data_set_is_suggested(tmp_path: Path) -> None:
    folder = make_decathlon(tmp_path / "outer" / "Task")
    with pytest.raises(DatasetError, match=f"did you mean {folder}"):
        open_dataset(folder.parent)
    with pytest.raises(DatasetError, match=f"did you mean {folder}"):
        open_dataset(folder / "labelsTr")


def test_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_iseg(tmp_path / "iseg", 1)

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DatasetError, match="Permission denied; check its permissions"):
        open_dataset(folder)


def test_natural_key_orders_numbers_by_value() -> None:
    ids = ["subject-10", "subject-2", "subject-1", "a", "b2c10", "b2c9", "07"]
    assert sorted(ids, key=natural_key) == ["07", "a", "b2c9", "b2c10", "subject-1", "subject-2", "subject-10"]


def test_unknown_subject_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected one of the subjects subject-1, subject-2; got 'subject-9'"):
        open_dataset(make_iseg(tmp_path, 2)).subject("subject-9")


@pytest.mark.slow
def test_import_does_not_load_torch() -> None:
    code = "import sys, core.datasets, core.datasets.doctor, core.datasets.splits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project_root()).returncode == 0
