"""Regions of errors: shapes whose components, volumes and depths are known, and brute force."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from core.evaluation import error_regions
from core.evaluation.error_regions import ConfusedClasses, Disagreement
from core.labels import IGNORE_INDEX
from tests.core.evaluation.test_metrics import TILTED, blobs

SPACING_MM = (0.5, 1.0, 3.0)
VOXEL_ML = 0.0015


def cube(start: int, stop: int, value: int = 1, size: int = 24) -> np.ndarray:
    labels = np.zeros((size, size, size), np.uint8)
    labels[start:stop, start:stop, start:stop] = value
    return labels


def test_equal_segmentations_have_no_region() -> None:
    for with_border in (False, True):
        found = Disagreement(cube(4, 9), cube(4, 9), (1, 1, 1)).regions(with_border)
        assert (found.regions, found.others, found.border_ml) == ((), 0, 0.0)


@pytest.mark.parametrize(("axis", "depth_mm"), [(0, 2.5), (1, 5.0), (2, 15.0)])
def test_depth_of_a_slab_beyond_the_surface_is_its_thickness(axis: int, depth_mm: float) -> None:
    """The prediction reaches five voxels too far along an axis: five layers of false positives, one of them border."""
    truth = cube(4, 10)
    prediction = truth.copy()
    slab = [slice(4, 10)] * 3
    slab[axis] = slice(10, 15)
    prediction[tuple(slab)] = 1
    (region,) = Disagreement(truth, prediction, SPACING_MM).regions().regions
    assert region.voxels == 5 * 36 and region.volume_ml == pytest.approx(180 * VOXEL_ML)
    assert region.depth_mm == pytest.approx(depth_mm)
    assert region.confused == (ConfusedClasses(0, 1, 180),)
    assert region.centre[axis] == 14, "the crosshair goes to the deepest layer"
    assert (region.first[axis], region.last[axis]) == (10, 14)
    (missing,) = Disagreement(prediction, truth, SPACING_MM).regions().regions
    assert missing.confused == (ConfusedClasses(1, 0, 180),) and missing.depth_mm == pytest.approx(depth_mm)


def test_shell_of_one_voxel_is_a_border_error_and_no_region() -> None:
    truth, prediction = cube(6, 14), cube(5, 15)
    found = Disagreement(truth, prediction, SPACING_MM).regions()
    assert found.regions == () and found.border_ml == pytest.approx((1000 - 512) * VOXEL_ML)
    (region,) = Disagreement(truth, prediction, SPACING_MM).regions(with_border=True).regions
    assert region.voxels == 488 and region.depth_mm == pytest.approx(math.dist((0, 0, 0), SPACING_MM))


def test_regions_that_only_the_border_connects_are_several_and_sorted_by_volume() -> None:
    truth, prediction = cube(6, 14), cube(5, 15)
    prediction[15:19, 8:12, 8:12] = 1  # 4 layers on the shell
    prediction[8:10, 8:10, 0:5] = 1  # 5 layers, thinner
    both = Disagreement(truth, prediction, SPACING_MM)
    large, small = both.regions().regions
    assert large.volume_ml > small.volume_ml
    assert large.centre[0] == 18 and small.centre[2] == 0
    total = int((truth != prediction).sum()) * VOXEL_ML
    assert large.volume_ml + small.volume_ml + both.regions().border_ml == pytest.approx(total)
    (whole,) = both.regions(with_border=True).regions
    assert whole.volume_ml == pytest.approx(total)


def test_missed_structure_is_a_region_however_thin_it_is() -> None:
    truth, prediction = cube(4, 10), cube(4, 10)
    truth[20, 20, 18:22] = 2  # one voxel thick: each voxel touches the background
    found = Disagreement(truth, prediction, SPACING_MM).regions()
    (region,) = found.regions
    assert region.voxels == 4 and region.depth_mm == math.inf and found.border_ml == 0
    assert region.centre in ((20, 20, 19), (20, 20, 20))
    assert region.to_json()["depth_mm"] is None
    prediction[20, 20, 0] = 2  # elsewhere
    (region,) = (r for r in Disagreement(truth, prediction, SPACING_MM).regions().regions if r.centre[2] > 1)
    assert region.depth_mm == pytest.approx(21 * 3.0)


def test_wrong_class_has_the_depth_of_the_class_that_is_farther_away() -> None:
    """Two neighbouring blocks along i; the prediction's border between them is six voxels off."""
    truth = np.zeros((20, 8, 8), np.uint8)
    truth[2:10, 2:6, 2:6], truth[10:18, 2:6, 2:6] = 1, 2
    prediction = truth.copy()
    prediction[4:10, 2:6, 2:6] = 2
    (region,) = Disagreement(truth, prediction, SPACING_MM).regions().regions
    assert region.confused == (ConfusedClasses(1, 2, 96),)
    assert region.depth_mm == pytest.approx(6 * 0.5)


def test_ignored_voxels_are_not_wrong() -> None:
    truth, prediction = cube(4, 10), cube(4, 20)
    truth[10:], truth[:, 10:], truth[:, :, 10:] = IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX
    assert Disagreement(truth, prediction, (1, 1, 1)).regions(with_border=True).regions == ()


@pytest.mark.slow
@pytest.mark.parametrize("axes_mm", [SPACING_MM, TILTED])
def test_regions_and_depths_match_brute_force(axes_mm: tuple[float, ...] | np.ndarray) -> None:
    truth, prediction = blobs(4), blobs(104)
    prediction = np.where(np.random.default_rng(0).random(truth.shape[2]) < 0.6, truth, prediction)  # equal in slices
    steps = np.diag(axes_mm) if np.ndim(axes_mm) == 1 else np.asarray(axes_mm)
    depth, touches = np.zeros(truth.shape), np.ones(truth.shape, bool)
    for i, j, k in np.argwhere(truth != prediction):
        for own, other in ((truth[i, j, k], prediction), (prediction[i, j, k], truth)):
            if own:
                offsets = np.argwhere(other == own) - (i, j, k)
                depth[i, j, k] = max(depth[i, j, k], cdist(offsets @ steps.T, [[0, 0, 0]]).min())
                touches[i, j, k] &= bool((np.abs(offsets).max(axis=1) <= 1).any())
    found = Disagreement(truth, prediction, axes_mm)
    for with_border, seeds in ((True, truth != prediction), (False, ~touches)):
        labels, count = ndimage.label(seeds, np.ones((3, 3, 3)))
        regions = found.regions(with_border).regions
        assert len(regions) == count > 1
        labels = np.where((truth != prediction) & (labels == 0), ndimage.grey_dilation(labels, size=3), labels)
        deepest = ndimage.maximum(depth, labels, range(1, count + 1))
        assert sorted(r.depth_mm for r in regions) == pytest.approx(sorted(deepest), rel=1e-6)
        sizes = [r.voxels for r in regions]
        assert sizes == sorted(sizes, reverse=True)
        for region in regions:
            assert depth[region.centre] == pytest.approx(region.depth_mm, rel=1e-6)
            assert sum(pair.voxels for pair in region.confused) == region.voxels
    counted = sum(r.voxels for r in found.regions().regions) * abs(np.linalg.det(steps)) / 1000
    total = int((truth != prediction).sum()) * abs(np.linalg.det(steps)) / 1000
    assert counted + found.regions().border_ml == pytest.approx(total)


def test_regions_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_regions, "MAX_REGIONS", 2)
    truth = np.zeros((20, 4, 4), np.uint8)
    prediction = truth.copy()
    for n in range(5):
        prediction[4 * n, 0, : 4 - n // 2] = 1
    found = Disagreement(truth, prediction, (1, 1, 1)).regions()
    assert [r.voxels for r in found.regions] == [4, 4]
    assert (found.others, found.others_ml) == (3, pytest.approx((3 + 3 + 2) / 1000))
    assert json.loads(json.dumps(found.to_json()))["others"] == 3


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        Disagreement(cube(4, 9), cube(4, 9, size=20), (1, 1, 1))
