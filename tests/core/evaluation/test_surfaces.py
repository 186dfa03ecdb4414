"""Normalised surface Dice, HD95 and ASD against masks of distances counted by hand, MONAI and surface-distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch

from core.evaluation.metrics import SubjectScore, score_subject, summarise
from core.evaluation.surfaces import TOLERANCES_MM, surface_dice, surface_distances, tolerance_key
from core.labels import IGNORE_INDEX
from tests.core.evaluation.test_metrics import NAMES, SPACINGS, ball, blobs
from tests.support.peer_packages import import_or_skip, monai_or_skip


def rows(*lengths: int) -> list[np.ndarray]:
    """Masks of one row of voxels along k, each of them so long."""
    masks = [np.zeros((2, 2, 12), bool) for _ in lengths]
    for mask, length in zip(masks, lengths, strict=True):
        mask[0, 0, :length] = True
    return masks


@pytest.mark.parametrize(("spacing_mm", "shares"), [(1.0, [6, 10, 14]), (0.5, [10, 14, 15]), (2.5, [6, 6, 6])])
def test_surface_dice_of_two_rows_by_hand(spacing_mm: float, shares: list[int]) -> None:
    """Rows of 3 and 9 voxels: 6 surface voxels have the distance 0, the others are 1, 2, ... 6 voxels away."""
    truth, prediction = rows(3, 9)
    steps = np.array([0] * 6 + list(range(1, 7)))
    found = surface_dice(truth, prediction, (1, 1, spacing_mm), (0.5, 2.0, 100))
    for tolerance, value in zip((0.5, 2.0, 100), found.values(), strict=True):
        assert value == pytest.approx(np.mean(steps * spacing_mm <= tolerance)), tolerance


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_surface_in_a_volume_of_one_slice_is_the_outline(axis: int) -> None:
    """A square of 10 x 10 voxels beside one of 12 x 12 around it, by hand; as surfaces they would be whole squares."""
    truth, prediction = (np.zeros((20, 20), bool) for _ in range(2))
    truth[5:15, 5:15], prediction[4:16, 4:16] = True, True
    spacing_mm = np.insert([1.0, 1.0], axis, 7.0)
    truth, prediction = np.expand_dims(truth, axis), np.expand_dims(prediction, axis)
    found = surface_distances(truth, prediction, spacing_mm)
    # 36 voxels of the inner outline are 1 mm away; of the 44 of the outer one 40, and the corners sqrt(2).
    assert found.hd95_mm == pytest.approx(np.percentile([1.0] * 40 + [math.sqrt(2)] * 4, 95))
    assert found.asd_mm == pytest.approx((36 + 40 + 4 * math.sqrt(2)) / 80)
    assert surface_dice(truth, prediction, spacing_mm, (0.5, 1.0, 2.0)) == {
        "0.5": 0.0,
        "1": pytest.approx(76 / 80),
        "2": 1.0,
    }
    single = np.ones((1, 1, 1), bool)
    assert surface_distances(single, single, spacing_mm).hd95_mm == 0


def test_voxel_size_that_a_file_has_rounded_is_within_its_tolerance() -> None:
    truth, prediction = rows(3, 4)
    rounded = float(np.float32(1.0000001))
    assert rounded > 1
    assert surface_dice(truth, prediction, (1, 1, rounded), (1.0,)) == {"1": 1.0}
    assert surface_dice(truth, prediction, (1, 1, 1.01), (1.0,)) == {"1": pytest.approx(6 / 7)}


def test_one_empty_mask_is_zero_and_two_are_not_a_number() -> None:
    truth, empty = rows(3, 0)
    assert set(surface_dice(truth, empty, (1, 1, 1)).values()) == {0.0}
    assert set(surface_dice(empty, truth, (1, 1, 1)).values()) == {0.0}
    assert all(math.isnan(value) for value in surface_dice(empty, empty, (1, 1, 1)).values())
    assert list(surface_dice(truth, truth, (1, 1, 1))) == [tolerance_key(t) for t in TOLERANCES_MM]


@pytest.mark.slow
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_surface_dice_matches_monai(spacing_mm: tuple[float, ...]) -> None:
    peers = monai_or_skip("monai.metrics")
    truth, prediction = blobs(3), blobs(103)
    onehot = [torch.nn.functional.one_hot(torch.as_tensor(m).long()).movedim(-1, 0)[None] for m in (prediction, truth)]
    score = score_subject(truth, prediction, spacing_mm, NAMES)
    for tolerance in TOLERANCES_MM:
        peer = peers.compute_surface_dice(*onehot, class_thresholds=[tolerance] * 3, spacing=spacing_mm)
        found = [score.surface_dice[name][tolerance_key(tolerance)] for name in NAMES[1:]]
        assert found == pytest.approx(peer[0].tolist(), abs=1e-6), tolerance


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # of the package
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_surface_dice_of_fine_voxels_is_close_to_that_of_surface_elements(
    spacing_mm: tuple[float, float, float],
) -> None:
    """surface-distance weighs each element of the surface by its area, and has it between the voxels."""
    peer = import_or_skip("surface_distance", "requirements-dev.txt")
    fine = tuple(0.5 * step for step in spacing_mm)
    shape = tuple(math.ceil(36 / step) for step in fine)
    truth, prediction = ball(10, fine, shape), ball(10, fine, shape, (0, 6, 0))
    distances = peer.compute_surface_distances(truth, prediction, fine)
    for tolerance in (2.0, 3.0, 5.0):
        found = surface_dice(truth, prediction, fine, (tolerance,))[tolerance_key(tolerance)]
        assert found == pytest.approx(peer.compute_surface_dice_at_tolerance(distances, tolerance), abs=0.08)
    assert surface_dice(truth, prediction, fine, (8.0,)) == {"8": 1.0}


def of_elements(truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...]) -> Elements:
    peer = import_or_skip("surface_distance", "requirements-dev.txt")
    return Elements(peer, peer.compute_surface_distances(truth, prediction, spacing_mm))


@dataclass(frozen=True)
class Elements:
    """Distances by surface-distance. It has elements of the surface at the corners of voxels, half a diagonal away from
    the centres of the surface's voxels, so that a distance differs by a diagonal at most; and it weighs them by their
    areas, where each voxel counts once here."""

    peer: ModuleType
    distances: dict[str, np.ndarray]

    def hd(self, percent: float) -> float:
        return float(self.peer.compute_robust_hausdorff(self.distances, percent))

    @property
    def pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances of the elements of both surfaces in ascending order, and their areas."""
        lengths = np.concatenate([self.distances[f"distances_{way}"] for way in ("gt_to_pred", "pred_to_gt")])
        areas = np.concatenate([self.distances[f"surfel_areas_{side}"] for side in ("gt", "pred")])
        order = np.argsort(lengths)
        return lengths[order], areas[order]

    @property
    def asd(self) -> float:
        lengths, areas = self.pooled
        return float((lengths * areas).sum() / areas.sum())

    def means(self, ratio: float) -> tuple[float, float]:
        """Least and largest mean if the weights of equal areas differ by a ratio at most: those of the nearest
        elements, so many as make it extreme, and those of the others."""
        lengths, areas = self.pooled
        sums, totals = (np.concatenate([[0], np.cumsum(areas * values)]) for values in (lengths, np.ones_like(lengths)))

        def means(near: float, far: float) -> np.ndarray:
            weighted, weights = (near * part + far * (part[-1] - part) for part in (sums, totals))
            return np.asarray(weighted / weights)

        return float(means(ratio, 1).min()), float(means(1, ratio).max())


def fine_balls(
    spacing_mm: tuple[float, ...], radii: tuple[float, float], shift: float
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two balls in voxels of half the size, the second one moved along j; and the voxel size."""
    fine = tuple(0.5 * step for step in spacing_mm)
    shape = tuple(math.ceil(36 / step) for step in fine)
    return ball(radii[0], fine, shape), ball(radii[1], fine, shape, (0, shift, 0)), fine


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # of the package
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_a_shifted_box_is_exactly_that_of_surface_distance(axis: int, spacing_mm: tuple[float, ...]) -> None:
    """The far face is more than 5 % of the voxels and of the area, so that weights change nothing: it is the shift."""
    truth = np.zeros((18, 18, 18), bool)
    truth[4:13, 4:13, 4:13] = True
    moved = np.roll(truth, 3, axis)
    found = surface_distances(truth, moved, spacing_mm)
    assert found.hd95_mm == pytest.approx(of_elements(truth, moved, spacing_mm).hd(95), abs=1e-9)
    assert found.hd95_mm == pytest.approx(3 * spacing_mm[axis])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_hd95_and_asd_of_concentric_balls_are_those_of_surface_distance(spacing_mm: tuple[float, ...]) -> None:
    """All distances are about the same, whatever their weights: what remains is the place of the surface."""
    truth, prediction, fine = fine_balls(spacing_mm, (9, 14), 0)
    found, peer = surface_distances(truth, prediction, fine), of_elements(truth, prediction, fine)
    diagonal = math.dist(fine, (0, 0, 0))
    assert found.hd95_mm == pytest.approx(peer.hd(95), abs=diagonal)
    assert found.asd_mm == pytest.approx(peer.asd, abs=diagonal)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_hd95_and_asd_of_a_shifted_ball_are_those_of_surface_distance_but_for_its_weights(
    spacing_mm: tuple[float, ...],
) -> None:
    """A plane with the normal n has max(n_a s_a) voxels of the surface in an area, up to a factor: between the largest
    step s and 1 / sqrt(sum of 1 / s_a^2). Their ratio bounds which percentile by area one by voxels can be."""
    truth, prediction, fine = fine_balls(spacing_mm, (10, 10), 6)
    found, peer = surface_distances(truth, prediction, fine), of_elements(truth, prediction, fine)
    diagonal = math.dist(fine, (0, 0, 0))
    ratio = max(fine) * math.hypot(*(1 / step for step in fine))
    least, most = (100 - 100 / (1 + 19 * change) for change in (1 / ratio, ratio))
    assert peer.hd(least) - diagonal <= found.hd95_mm <= peer.hd(most) + diagonal
    low, high = peer.means(ratio)
    assert low <= peer.asd <= high and low - diagonal <= found.asd_mm <= high + diagonal


def test_score_of_a_subject_has_the_surface_dice_of_each_class() -> None:
    truth, prediction = blobs(1), blobs(101)
    truth[:3] = IGNORE_INDEX
    score = score_subject(truth, prediction, (1, 2, 3), NAMES)
    for index, name in enumerate(NAMES[1:], 1):
        assert score.surface_dice[name] == surface_dice(truth[3:] == index, prediction[3:] == index, (1, 2, 3))


def test_mean_surface_dice_is_left_out_where_a_subject_was_scored_without_it() -> None:
    old = SubjectScore({"a": 0.5}, {"a": 1.0}, {"a": 1.0}, (), {})
    new = SubjectScore({"a": 0.5}, {"a": 1.0}, {"a": 1.0}, (), {}, {"a": {"1": 0.5, "2": 1.0}})
    none = SubjectScore(
        {"a": math.nan}, {"a": math.nan}, {"a": math.nan}, (), {}, {"a": {"1": math.nan, "2": math.nan}}
    )
    assert summarise([new, none]).surface_dice == {"a": {"1": 0.5, "2": 1.0}}
    assert summarise([old, new]).surface_dice == {"a": {}}
