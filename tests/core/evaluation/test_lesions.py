"""Lesion-wise scores of lesions that are placed by hand."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest

from core.evaluation import lesions
from core.evaluation.lesions import score_lesions

SPACING_MM = (1.0, 2.0, 5.0)  # 0.01 ml a voxel
SHAPE = (40, 12, 12)


def boxes(*spans: tuple[int, int]) -> np.ndarray:
    """Boxes of 4 x 4 voxels across, from one index to another along i."""
    mask = np.zeros(SHAPE, bool)
    for start, stop in spans:
        mask[start:stop, 4:8, 4:8] = True
    return mask


def test_detected_missed_and_false_lesions_by_hand() -> None:
    truth = boxes((0, 4), (10, 12), (20, 21))  # 64, 32 and 16 voxels
    prediction = boxes((1, 5), (20, 21), (30, 33))  # 64 voxels shifted by one, the third exactly, and a false one of 48
    score = score_lesions(truth, prediction, SPACING_MM)
    assert score is not None
    assert [(lesion.volume_ml, lesion.dice) for lesion in score.detected] == [
        (pytest.approx(0.64), pytest.approx(2 * 48 / 128)),
        (pytest.approx(0.16), 1.0),
    ]
    (missed,), (false,) = score.missed, score.false
    assert (missed.volume_ml, missed.dice) == (pytest.approx(0.32), 0.0) and missed.centre[0] in (10, 11)
    assert false.volume_ml == pytest.approx(0.48) and math.isnan(false.dice) and false.centre[0] == 31
    assert score.sensitivity == pytest.approx(2 / 3) and score.precision == pytest.approx(2 / 3)
    assert score.mean_dice == pytest.approx((0.75 + 1 + 0) / 3)
    (size,) = score.by_size
    assert (size.low_ml, size.high_ml, size.lesions, size.detected) == (0.1, 1.0, 3, 2)


def test_lesions_that_one_prediction_covers_are_each_scored_without_the_other() -> None:
    truth, prediction = boxes((0, 4), (6, 10)), boxes((0, 10))
    score = score_lesions(truth, prediction, SPACING_MM)
    assert score is not None and score.false == ()
    beside = 2 * 16  # the bridge, which is in no lesion
    assert [lesion.dice for lesion in score.detected] == [pytest.approx(2 * 64 / (64 + 64 + beside))] * 2
    assert score.precision == 1.0


def test_lesion_that_comes_in_pieces_is_detected_once() -> None:
    score = score_lesions(boxes((0, 10), (20, 24)), boxes((0, 2), (4, 6)), SPACING_MM)
    assert score is not None and len(score.detected) == 1 and len(score.missed) == 1 and score.predicted == 2
    assert score.detected[0].dice == pytest.approx(2 * 64 / (160 + 64))


def test_sensitivity_is_given_for_the_sizes_that_occur() -> None:
    truth = boxes((0, 12), (20, 26))  # 1.92 and 0.96 ml
    truth[38, 0, 0] = True  # 0.01 ml, the limit of the first two sizes
    score = score_lesions(truth, boxes((0, 3)), SPACING_MM)
    assert score is not None
    found = [(size.low_ml, size.high_ml, size.lesions, size.detected) for size in score.by_size]
    assert found == [(0.01, 0.1, 1, 0), (0.1, 1.0, 1, 0), (1.0, 10.0, 1, 1)]


def test_structure_with_specks_is_not_scored_by_lesions() -> None:
    whole = boxes((0, 20))
    specks = whole.copy()
    specks[30, 0, 0] = True
    empty = np.zeros(SHAPE, bool)
    for truth, prediction in ((whole, specks), (specks, whole), (whole, empty), (empty, empty)):
        assert score_lesions(truth, prediction, SPACING_MM) is None
    assert score_lesions(whole, boxes((0, 5), (10, 15)), SPACING_MM) is not None


def test_subject_without_lesions_has_false_ones_and_no_sensitivity() -> None:
    score = score_lesions(np.zeros(SHAPE, bool), boxes((0, 2), (5, 7)), SPACING_MM)
    assert score is not None and len(score.false) == 2 and score.precision == 0.0
    assert math.isnan(score.sensitivity) and math.isnan(score.mean_dice)
    data = json.loads(json.dumps(score.to_json()))
    assert data["sensitivity"] is None and data["false"]["count"] == 2 and data["false"]["largest"][0]["dice"] is None


def test_memory_of_noise_does_not_grow_with_the_pairs_of_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_centres", lambda labels, *_: [(0, 0, 0)] * int(labels.max()))  # the slow part
    truth, prediction = np.zeros((2, 40, 40, 40), bool)
    truth[::4, ::4, ::4] = prediction[::2, ::2, ::2] = True
    tracemalloc.start()
    score = score_lesions(truth, prediction, SPACING_MM)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert score is not None and (len(score.detected), len(score.missed), len(score.false)) == (1000, 0, 7000)
    assert score.mean_dice == 1.0 and score.precision == 1 / 8
    assert peak_bytes < 30e6, "a table of all pairs has 64 MB"


def test_components_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert score_lesions(mask, mask, SPACING_MM) is None


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        score_lesions(boxes((0, 2)), boxes((0, 2))[1:], SPACING_MM)
