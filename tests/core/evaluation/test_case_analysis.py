"""Counts of the voxels of cases: confusion, surface distances, errors near borders; against MONAI, scipy, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from core.evaluation.case_analysis import BORDER_MM, STEP_MM, STEPS, CaseAnalysis, analyse_case, pool
from core.labels import IGNORE_INDEX
from tests.support.balls import balls
from tests.support.peer_packages import monai_or_skip

CLASSES = ("background", "one", "two")
SPACING_MM = (1.0, 1.0, 1.5)


def shifted_balls(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two balls, and the same moved by voxels, of which some change their class."""
    _, truth = balls(seed)
    prediction = np.roll(truth, (1, 0, 1), axis=(0, 1, 2))
    prediction[(truth == 1) & (np.indices(truth.shape)[1] > 14)] = 2
    return truth, prediction


def test_confusion_counts_every_voxel_once_in_voxels_ml_and_percent() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 2, IGNORE_INDEX], np.uint8).reshape(1, 1, -1)
    prediction = np.array([0, 0, 1, 1, 1, 2, 0, 2, 1], np.uint8).reshape(1, 1, -1)
    found = analyse_case(truth, prediction, (2.0, 1.0, 1.0), CLASSES)
    assert found.confusion.tolist() == [[2, 1, 0], [1, 2, 1], [0, 0, 1]]
    assert found.confusion_ml[1, 2] == pytest.approx(0.002)
    assert found.confusion_percent[1].tolist() == [25, 50, 25]
    assert np.isnan(analyse_case(truth * 0, prediction, SPACING_MM, CLASSES).confusion_percent[2]).all()


def test_distances_to_a_border_are_found_across_sheared_axes() -> None:
    """Axes at 60 degrees: a voxel 22 steps away along one of them is 19 mm away."""
    axes_mm = np.array([[1, 0, 0], [0, 1, np.tan(np.pi / 6)], [0, 0, 1]])
    truth = np.full((1, 23, 12), IGNORE_INDEX, np.uint8)
    truth[0, 0, 10], truth[0, 22, 0] = 1, 0
    distance_mm = np.linalg.norm(axes_mm @ (0, 22, -10))
    assert 19 < distance_mm < 20
    found = analyse_case(truth, np.zeros_like(truth), axes_mm, CLASSES).border["one"]
    assert np.flatnonzero(found.voxels).tolist() == [19] == np.flatnonzero(found.wrong).tolist()


@pytest.mark.slow
def test_surface_distances_are_those_of_monai_in_both_directions() -> None:
    import torch

    get_edge_surface_distance = monai_or_skip("monai.metrics.utils").get_edge_surface_distance
    truth, prediction = shifted_balls(3)
    found = analyse_case(truth, prediction, SPACING_MM, CLASSES)
    for index, name in ((1, "one"), (2, "two")):
        masks = [torch.from_numpy(labels == index) for labels in (prediction, truth)]
        _, distances, _ = get_edge_surface_distance(masks[0], masks[1], spacing=SPACING_MM, symmetric=True)
        for counts, expected in zip(
            (found.surface[name].prediction, found.surface[name].truth), distances, strict=True
        ):
            edges = np.arange(STEPS + 1) * STEP_MM - 1e-4
            histogram, _ = np.histogram(np.asarray(expected), [*edges, np.inf])
            assert counts.tolist() == histogram.tolist(), name
        assert found.surface[name].largest_mm == pytest.approx(max(float(d.max()) for d in distances))


def test_errors_are_counted_by_the_distance_to_another_class_of_the_reference() -> None:
    truth, prediction = shifted_balls(4)
    found = analyse_case(truth, prediction, SPACING_MM, CLASSES)
    for index, name in enumerate(CLASSES):
        distances = ndimage.distance_transform_edt(truth == index, sampling=SPACING_MM)
        for n in (0, 1, 4):
            shell = (truth == index) & (distances > n + 1e-4) & (distances <= n + 1 + 1e-4)
            assert found.border[name].voxels[n] == shell.sum(), (name, n)
            assert found.border[name].wrong[n] == (shell & (prediction != truth)).sum(), (name, n)
        assert found.border[name].voxels.sum() == (truth == index).sum()
        assert found.border[name].wrong.sum() == ((truth == index) & (prediction != truth)).sum()


def test_voxels_far_from_any_border_are_counted_beyond_the_last_step() -> None:
    truth = np.zeros((60, 5, 5), np.uint8)
    truth[0] = 1
    prediction = truth.copy()
    prediction[59] = 1
    border = analyse_case(truth, prediction, (1, 1, 1), CLASSES[:2]).border["background"]
    assert border.voxels[:BORDER_MM].tolist() == [25] * BORDER_MM and border.voxels[-1] == 25 * (59 - BORDER_MM)
    assert border.wrong[-1] == 25 and not border.wrong[:-1].any()


def test_ignored_voxels_count_for_nothing_and_are_no_border() -> None:
    truth = np.ones((6, 6, 6), np.uint8)
    truth[:, :, 0], truth[0, 0, 5] = IGNORE_INDEX, 0
    found = analyse_case(truth, np.ones_like(truth), (1, 1, 1), CLASSES[:2])
    assert found.confusion.sum() == 6 * 6 * 5 and found.confusion[0].tolist() == [0, 1]
    assert found.border["one"].voxels.sum() == 179 and found.border["one"].voxels[0] == 3, "its three neighbours"


def test_cases_add_up_and_survive_json() -> None:
    cases = [analyse_case(*shifted_balls(seed), SPACING_MM, CLASSES) for seed in (5, 6)]
    pooled = pool(CaseAnalysis.from_json(json.loads(json.dumps(case.to_json()))) for case in cases)
    assert pooled is not None and pool([]) is None
    assert np.array_equal(pooled.confusion, cases[0].confusion + cases[1].confusion)
    assert np.array_equal(pooled.surface["one"].truth, cases[0].surface["one"].truth + cases[1].surface["one"].truth)
    assert pooled.surface["two"].largest_mm == max(case.surface["two"].largest_mm for case in cases)
    assert pooled.border["background"].wrong.sum() == sum(case.confusion[0, 1:].sum() for case in cases)


def test_a_class_that_only_one_has_has_no_surface_distances() -> None:
    truth, prediction = shifted_balls(7)
    prediction[prediction == 2] = 0
    assert set(analyse_case(truth, prediction, SPACING_MM, CLASSES).surface) == {"one"}
