"""A folder without dataset.json: the advice names its files, and the written file opens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from core.datasets import open_dataset
from core.datasets.dataset_json import write_description
from core.datasets.doctor import check
from core.errors import DatasetError
from tests.support.heads import write_heads
from tests.support.volume_files import voxels, write_nifti


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cases in two parallel folders, and no dataset.json."""
    folder = write_heads(tmp_path / "data", 3)
    (folder / "dataset.json").unlink()
    return folder


def test_advice_is_a_file_that_opens(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected a dataset\.json, found none; there are 3 images") as caught:
        open_dataset(folder)
    text = str(caught.value)
    assert "--write-description" in text and "imagesTr/case_1.nii.gz" in text
    example = re.search(r"\{.*\}", text)
    assert example is not None
    (folder / "dataset.json").write_text(example[0])
    assert open_dataset(folder).ids == ("case_1",)


def test_written_description_lists_all_cases_and_label_values(folder: Path) -> None:
    write_nifti(
        folder / "labelsTr" / "case_2.nii.gz",
        np.full((24, 24, 24), 7, np.int16) * (voxels((24, 24, 24)) > 500),
        np.eye(4),
    )
    assert write_description(folder) == folder / "dataset.json"
    dataset = open_dataset(folder)
    assert dataset.ids == ("case_1", "case_2", "case_3") and dataset.modalities == ("image",)
    assert [(c.raw, c.name) for c in dataset.labels.classes] == [(0, "background"), (1, "label 1"), (7, "label 7")]
    assert check(folder).ok
    with pytest.raises(DatasetError, match="expected no such file, found one"):
        write_description(folder)


def test_a_negative_label_value_becomes_the_ignore_label(folder: Path) -> None:
    label = np.int16(1) * (voxels((24, 24, 24)) > 500)
    label[:, :, 0] = -1
    write_nifti(folder / "labelsTr" / "case_2.nii.gz", label.astype(np.int16), np.eye(4))
    write_description(folder)
    ignore = open_dataset(folder).labels.ignore
    assert ignore is not None and ignore.raw == -1
    (folder / "dataset.json").unlink()
    label[:, :, 1] = -2
    write_nifti(folder / "labelsTr" / "case_2.nii.gz", label.astype(np.int16), np.eye(4))
    with pytest.raises(DatasetError, match=r"at most one negative label value.*got \[-2, -1\]"):
        write_description(folder)


def test_channels_become_modalities(folder: Path) -> None:
    for path in (folder / "imagesTr").iterdir():
        write_nifti(path, np.random.default_rng(1).normal(0, 1, (24, 24, 24, 2)), np.eye(4))
    write_description(folder)
    assert open_dataset(folder).modalities == ("image 1", "image 2")


def test_folder_without_label_maps_has_no_description(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="expected images and label maps"):
        write_description(folder)
    assert not (folder / "dataset.json").exists()


def test_check_writes_the_description_on_request(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 1
    assert "--write-description" in capsys.readouterr().err
    assert main(["check", "--write-description", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "3 subjects" in out and err == f"written: {folder / 'dataset.json'}\n"
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"0": "background", "1": "label 1"}
