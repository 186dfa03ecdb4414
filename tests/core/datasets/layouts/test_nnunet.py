"""Layout of nnU-Net: channels in files of their own, labels by name, the ignore label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.doctor import check
from core.errors import DatasetError
from core.labels import IGNORE_INDEX
from tests.support.volume_files import label_map, make_nnunet, voxels, write_nifti


def test_channels_and_labels_are_read(tmp_path: Path) -> None:
    dataset = open_dataset(make_nnunet(tmp_path))
    assert (dataset.layout, dataset.modalities) == ("nnunet", ("M0", "M1"))
    assert dataset.ids == ("case_001", "case_002", "case_003") == dataset.labelled_ids
    assert dataset.labels.names == ("background", "front", "back")
    loaded = load_subject(dataset, "case_002")
    assert np.array_equal(loaded.image, np.stack([voxels(seed=20), voxels(seed=21)]))
    assert loaded.label is not None and np.array_equal(loaded.label, label_map((0, 1, 2), seed=2))
    assert check(dataset).ok


def test_ignore_label_is_left_out(tmp_path: Path) -> None:
    dataset = open_dataset(make_nnunet(tmp_path, labels={"background": 0, "front": 1, "ignore": 2}))
    assert dataset.labels.names == ("background", "front") and dataset.labels.ignore is not None
    label = load_subject(dataset, "case_001").label
    assert label is not None and np.array_equal(label == IGNORE_INDEX, label_map((0, 1, 2), seed=1) == 2)


def test_missing_channels_and_label_maps_are_errors_of_the_doctor(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    (tmp_path / "imagesTr" / "case_001_0001.nii.gz").unlink()
    (tmp_path / "labelsTr" / "case_002.nii.gz").unlink()
    for n in (0, 1):
        (tmp_path / "imagesTr" / f"case_003_000{n}.nii.gz").unlink()
    errors = [(e.subject, e.message) for e in check(tmp_path).with_severity("error")]
    assert errors == [
        ("case_001", "expected an image of M1, found none"),
        ("case_002", "expected a label map, found none"),
        ("case_003", "expected an image of M0 and M1, found none"),
    ]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"channel_names": {}}, "expected 'channel_names' like"),
        ({"channel_names": {"1": "T1"}}, "expected 'channel_names' like"),
        ({"channel_names": {"0": "T1", "1": "T1"}}, "expected 'channel_names' like"),
        ({"labels": None}, "expected 'labels' like"),
        ({"file_ending": ".nrrd"}, r"such as case_0000\.nrrd, found none"),
    ],
)
def test_unusable_descriptions_are_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        open_dataset(make_nnunet(tmp_path, **changes))


@pytest.mark.parametrize("extra", [{}, {"modality": {"0": "M0", "1": "M1"}}])
def test_a_list_of_cases_that_was_left_over_from_the_decathlon_is_ignored(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    training = [{"image": "./imagesTr/case_001.nii.gz", "label": "./labelsTr/case_001.nii.gz"}]
    dataset = open_dataset(make_nnunet(tmp_path, training=training, **extra))
    assert (dataset.layout, dataset.modalities) == ("nnunet", ("M0", "M1")) and len(dataset.labelled_ids) == 3


def test_images_without_label_maps_are_listed_for_prediction(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path)
    for name in ("case_001", "test_9"):  # one has the name of a training case
        for n in (0, 1):
            write_nifti(folder / "imagesTs" / f"{name}_{n:04d}.nii.gz", voxels(seed=n))
    write_nifti(folder / "labelsTs" / "test_9.nii.gz", label_map((0, 1, 2), seed=1))
    dataset = open_dataset(folder)
    assert dataset.labelled_ids == ("case_001", "case_002", "case_003")
    assert set(dataset.ids) - set(dataset.labelled_ids) == {"imagesTs-case_001", "test_9"}
    assert dataset.subject("case_001").files[0].parent.name == "imagesTr"
    assert dataset.is_predicted_only(dataset.subject("test_9"))
    notes = "\n".join(dataset.notes)
    assert "2 subjects without label map, for prediction only: imagesTs-case_001, test_9" in notes
    assert "not read, since dataset.json does not name them: labelsTs (1 image file)" in notes
    assert check(dataset).ok
