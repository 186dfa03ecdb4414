"""Findings in a stored prediction: read without the image; regions, lesions and counts are of the same voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.datasets import load_subject, loading, open_dataset
from core.datasets.loading import load_label
from core.errors import DatasetError, VolumeError
from core.evaluation.findings import subject_findings
from core.imaging.volume import write_label
from tests.support.balls import write_balls
from tests.support.volume_files import write_nifti


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "balls", subjects=2)


def keep(data: Path, subject: str, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write a prediction with mistakes; returns the class indices of truth and prediction."""
    dataset = open_dataset(data)
    loaded = load_subject(dataset, subject)
    assert loaded.label is not None
    prediction = np.where(loaded.label == 1, 2, 0).astype(np.uint8)  # class 2 is missed, class 1 taken for it
    prediction[1:5, 1:5, 1:5] = 1
    write_label(file, dataset.labels.to_raw(prediction), loaded.stored, loaded.first_image)
    return loaded.label, prediction


@pytest.mark.parametrize("number", [0, 1])  # the second one is stored with flipped axes
def test_findings_need_no_voxel_of_the_image(
    number: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(data)
    subject, file = dataset.ids[number], tmp_path / "kept.nii.gz"
    truth, prediction = keep(data, subject, file)
    monkeypatch.setattr(loading, "_read_channels", lambda *_: pytest.fail("the image was read"))
    label, geometry = load_label(dataset, subject)
    assert label is not None and np.array_equal(label, truth) and geometry.shape == truth.shape
    found = subject_findings(dataset, subject, dataset.labels, file).to_json()
    wrong = int((truth != prediction).sum())
    assert sum(region["voxels"] for region in found["with_border"]["regions"]) == wrong > 0
    assert sum(voxels for *_, voxels in found["confused"]) == wrong
    confused = {(t, p) for t, p, _ in found["confused"]}
    assert confused == {(1, 2), (2, 0), (0, 1)}
    for region in found["errors"]["regions"]:
        t, p, _ = region["confused"][0]
        centre = tuple(region["centre"])
        assert (truth[centre], prediction[centre]) == (t, p)


def test_prediction_of_another_size_and_a_subject_without_reference_are_refused(data: Path, tmp_path: Path) -> None:
    dataset, small = open_dataset(data), tmp_path / "small.nii.gz"
    (subject, other), labels = dataset.ids, dataset.labels
    write_nifti(small, np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(VolumeError, match=r"small.nii.gz: expected a segmentation of .* found 4"):
        subject_findings(dataset, subject, labels, small)
    unlabelled = replace(dataset, subjects=tuple(replace(one, label=None) for one in dataset.subjects))
    with pytest.raises(DatasetError, match=f"{other}: expected a label map to compare with"):
        subject_findings(unlabelled, other, labels, small)
