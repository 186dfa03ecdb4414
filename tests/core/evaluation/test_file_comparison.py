"""The comparison of two segmentation files: scores, and signs that the files do not belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets.file_case import REFERENCE, SEGMENTATION, default_names, file_case
from core.datasets.segmentation_values import read_segmentation_values
from core.errors import DatasetError
from core.evaluation.file_comparison import compare_files, doubts
from core.evaluation.metrics import score_subject
from core.imaging.geometry import Geometry
from tests.support.file_cases import SHAPE, SPACING, two_balls, write_case

NAMES = ("background", "a", "b")
GEOMETRY = Geometry(SHAPE, SPACING)
SAME_NAMES = {REFERENCE: {10: "a", 150: "b"}, SEGMENTATION: {1: "a", 2: "b"}}


def test_scores_are_those_of_the_voxels(tmp_path: Path) -> None:
    files = write_case(tmp_path)
    paths = {REFERENCE: files.reference, SEGMENTATION: files.segmentation}
    found = {role: read_segmentation_values(path) for role, path in paths.items()}
    compared = compare_files(file_case([files.image], found, SAME_NAMES), with_findings=True)
    truth = np.select([files.truth == 10, files.truth == 150], [1, 2])
    stored = SPACING[:3, :3].astype(np.float32).astype(float)  # as the header holds it
    by_hand = score_subject(truth, files.prediction.astype(int), stored, NAMES)
    assert compared.score == by_hand and compared.warnings == ()
    overlap, both = np.logical_and(truth == 1, files.prediction == 1).sum(), (truth == 1).sum()
    assert compared.score.dice == {"a": pytest.approx(overlap / both), "b": 1.0} and 0.7 < overlap / both < 0.9
    assert compared.findings is not None and compared.findings.classes == NAMES
    alone = file_case([files.image], {REFERENCE: found[REFERENCE]}, default_names(found))
    with pytest.raises(DatasetError, match="expected a reference and a segmentation for scores, got no segmentation"):
        compare_files(alone)


def test_equal_segmentations_raise_no_doubt() -> None:
    balls = two_balls((1, 2))
    assert list(doubts(balls, balls, NAMES, GEOMETRY)) == []
    assert list(doubts(balls, two_balls((1, 2), shift=3), NAMES, GEOMETRY)) == []


@pytest.mark.parametrize(("axis", "named"), [(0, "left-right"), (1, "front-back"), (2, "up-down")])
def test_mirrored_segmentation_is_doubted(axis: int, named: str) -> None:
    truth = np.roll(two_balls((1, 2)), (4, 5, 3), (0, 1, 2))
    (doubt,) = doubts(truth, np.flip(truth, axis), NAMES, GEOMETRY)
    assert f"agrees much better when it is mirrored {named}: mean Dice 1.000 instead of" in doubt
    (unknown,) = doubts(truth, np.flip(truth, axis), NAMES, Geometry(SHAPE, SPACING, oriented=False))
    assert f"mirrored along axis {axis + 1}" in unknown


def test_exchanged_values_are_doubted_by_name() -> None:
    truth = np.roll(two_balls((1, 2)), 4, 1)
    first, second = doubts(truth, np.select([truth == 1, truth == 2], [2, 1]), NAMES, GEOMETRY)
    assert first.startswith("a of the reference lies where the segmentation has b: Dice 1.000 instead of 0.000")
    assert second.startswith("b of the reference lies where the segmentation has a")


def test_values_without_a_common_name_are_doubted() -> None:
    names = ("background", "label 10", "label 150", "label 1", "label 2")
    found = list(doubts(two_balls((1, 2)), two_balls((3, 4)), names, GEOMETRY))
    assert [text.partition(": Dice")[0] for text in found] == [
        "label 10 of the reference lies where the segmentation has label 1",
        "label 150 of the reference lies where the segmentation has label 2",
    ]


def test_empty_segmentation_is_named() -> None:
    balls, empty = two_balls((1, 2)), np.zeros(SHAPE, np.uint8)
    assert list(doubts(balls, empty, NAMES, GEOMETRY)) == ["the segmentation has no voxel of any class"]
    assert list(doubts(np.full(SHAPE, 255, np.uint8), balls, NAMES, GEOMETRY)) == [
        "the reference has no voxel of any class"
    ]
