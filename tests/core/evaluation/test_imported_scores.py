"""Scores of segmentations that no model has made: those of their voxels, wherever the file stores them, or a reason."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset, load_subject, open_dataset
from core.errors import DatasetError
from core.evaluation.imported_scores import ImportedScores, score_file, score_files
from core.evaluation.metrics import SubjectScore, score_subject
from core.labels import LabelSpace
from core.strict_json import dumps
from tests.support.balls import CLASSES, SPACING_MM, tiny, write_balls
from tests.support.ignored import SLAB, write_ignored_balls
from tests.support.volume_files import load, write_nifti

CASE = "ball_1"  # stored as LAS


def metadata_of(classes: tuple[str, ...] = CLASSES) -> CheckpointMetadata:
    labels = LabelSpace.from_raw(dict(enumerate(classes)))
    return CheckpointMetadata(tiny(path="somewhere").to_json(), labels.to_json(), ("M0",), None)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_balls(tmp_path / "balls", subjects=3))


def truth_of(dataset: Dataset, id: str = CASE) -> np.ndarray:
    """Class indices, canonical."""
    label = load_subject(dataset, id).label
    assert label is not None
    return label


def stored(dataset: Dataset, canonical: np.ndarray, file: Path, id: str = CASE) -> Path:
    """A label map as a file, with the axes of the image's file."""
    image = load(dataset.subject(id).images["M0"].path)
    flipped = canonical[::-1] if image.affine[0, 0] < 0 else canonical
    return write_nifti(file, np.ascontiguousarray(flipped).astype(np.uint8), image.affine)


def test_scores_are_those_of_the_voxels_in_either_order_of_axes(dataset: Dataset, tmp_path: Path) -> None:
    truth = truth_of(dataset)
    shifted = np.roll(truth, 2, axis=0)
    by_hand = score_subject(truth, shifted, SPACING_MM, CLASSES)
    overlap = np.sum((truth == 1) & (shifted == 1)) / np.sum(truth == 1)
    assert by_hand.dice["bright"] == pytest.approx(overlap) and 0.2 < overlap < 0.9
    file = stored(dataset, shifted, tmp_path / "las.nii.gz")
    turned = nib.as_closest_canonical(load(file))
    other = write_nifti(tmp_path / "ras.nii.gz", np.asarray(turned.dataobj), turned.affine)
    assert np.asarray(turned.dataobj).tobytes() != np.asarray(load(file).dataobj).tobytes()
    for path in (file, other):
        score, warnings = score_file(dataset, metadata_of(), CASE, path)
        assert score == by_hand and warnings == ()


def test_a_file_of_another_grid_fails_and_the_other_cases_are_scored(dataset: Dataset, tmp_path: Path) -> None:
    own = {id: Path(str(dataset.subject(id).label)) for id in dataset.ids}
    affine = load(own["ball_0"]).affine.copy()
    affine[0, 3] += 5
    moved = write_nifti(tmp_path / "moved.nii.gz", np.asarray(load(own["ball_0"]).dataobj), affine)
    calls: list[tuple[float, int, str]] = []
    files = {**own, "ball_0": moved}
    found = score_files(dataset, metadata_of(), files, lambda done, total, id: calls.append((done, total, id)))
    assert list(found.scores) == ["ball_1", "ball_2"] and calls[0] == (0, 3, "ball_0") and calls[-1] == (3, 3, "")
    assert all(score.dice == {"bright": 1.0, "dark": 1.0} for score in found.scores.values())
    assert "expected a segmentation on the grid of the image of ball_0" in found.failures["ball_0"]
    assert ImportedScores.from_json(json.loads(dumps(found.to_json()))) == found


def test_a_mirrored_file_is_scored_with_a_doubt(dataset: Dataset, tmp_path: Path) -> None:
    mirrored = stored(dataset, truth_of(dataset)[::-1], tmp_path / "mirrored.nii.gz")
    score, warnings = score_file(dataset, metadata_of(), CASE, mirrored)
    assert score.mean_dice < 0.5
    assert any("agrees much better when it is mirrored left-right" in text for text in warnings)


def test_a_value_that_is_no_class_names_the_file(dataset: Dataset, tmp_path: Path) -> None:
    file = stored(dataset, truth_of(dataset) * 3, tmp_path / "values.nii.gz")
    found = score_files(dataset, metadata_of(), {CASE: file})
    assert not found.scores and str(file) in found.failures[CASE]
    assert "expected only the label values [0, 1, 2], found also 3, 6" in found.failures[CASE]


def test_a_class_that_the_model_lacks_is_background_in_both(dataset: Dataset, tmp_path: Path) -> None:
    truth = truth_of(dataset)
    file = stored(dataset, np.roll(truth, 1, axis=1), tmp_path / "all.nii.gz")
    score, warnings = score_file(dataset, metadata_of(("background", "dark")), CASE, file)
    expected = score_subject(
        (truth == 2).astype(int), (np.roll(truth, 1, axis=1) == 2).astype(int), SPACING_MM, ("background", "dark")
    )
    assert score == expected
    assert warnings == ("counted as background, as the model has no such class: bright",)
    with pytest.raises(DatasetError, match="of the classes of the model, found no lesion"):
        score_files(dataset, metadata_of(("background", "lesion")), {CASE: file})


def test_a_missed_class_has_no_distance(dataset: Dataset, tmp_path: Path) -> None:
    truth = truth_of(dataset)
    file = stored(dataset, np.where(truth == 2, 0, truth), tmp_path / "missed.nii.gz")
    score, _ = score_file(dataset, metadata_of(), CASE, file)
    assert (score.dice["bright"], score.dice["dark"], score.missed) == (1.0, 0.0, ("dark",))
    assert math.isnan(score.hd95_mm["dark"])


def test_the_ignore_label_is_left_out_only_where_the_reference_leaves_it_out(tmp_path: Path) -> None:
    dataset = open_dataset(write_ignored_balls(tmp_path / "balls", subjects=2))
    label = load(Path(str(dataset.subject("ball_0").label)))
    values = np.asarray(label.dataobj)

    def scored(changed: np.ndarray) -> SubjectScore:
        file = write_nifti(tmp_path / "file.nii.gz", changed, label.affine)
        return score_file(dataset, metadata_of(), "ball_0", file)[0]

    assert scored(values).dice == {"bright": 1.0, "dark": 1.0}
    wrong_where_ignored = values.copy()
    wrong_where_ignored[:, :SLAB] = 1
    assert scored(wrong_where_ignored).dice == {"bright": 1.0, "dark": 1.0}
    more = values.copy()
    more[:, SLAB] = 255
    with pytest.raises(DatasetError, match=r"found the ignore label in 360 voxels that the reference does not"):
        scored(more)


def test_a_case_without_a_reference_has_no_score(dataset: Dataset) -> None:
    label = Path(str(dataset.subject(CASE).label))
    unlabelled = replace(dataset, subjects=tuple(replace(s, label=None) for s in dataset.subjects))
    found = score_files(unlabelled, metadata_of(), {CASE: label})
    assert not found.scores and "expected a label map to compare with, found none" in found.failures[CASE]
