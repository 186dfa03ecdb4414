"""Whole-volume scores against brute force, MONAI, and shapes of known distances."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist

from core.evaluation.metrics import (
    MeanScore,
    SubjectScore,
    dice_from_counts,
    dice_per_class,
    nan_mean,
    score_subject,
    summarise,
)
from core.evaluation.surfaces import surface_distances
from core.labels import IGNORE_INDEX
from core.regions import region_space
from core.types import Size3, SpacingMm
from tests.support.peer_packages import monai_or_skip

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.0, 2.5)]
NAMES = ("background", "CSF", "GM", "WM")


def blobs(seed: int, shape: Size3 = (18, 15, 12), classes: int = 4) -> np.ndarray:
    """Smooth random class indices that touch the border of the volume."""
    noise = np.random.default_rng(seed).standard_normal((classes, *shape))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 2)).argmax(0).astype(np.uint8)


def ball(
    radius_mm: float, spacing_mm: tuple[float, ...], shape: tuple[int, ...], shift_mm: tuple[float, ...] = (0, 0, 0)
) -> np.ndarray:
    """A ball about the middle of the volume, moved by ``shift_mm``."""
    centres = [
        (np.arange(size) - (size - 1) / 2) * step - move
        for size, step, move in zip(shape, spacing_mm, shift_mm, strict=True)
    ]
    i, j, k = np.meshgrid(*centres, indexing="ij")
    return i**2 + j**2 + k**2 <= radius_mm**2


def brute_force(truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[float, float]:
    """HD95 and ASD from all pairs of surface voxels, each found by its six neighbours."""
    points = []
    for mask in (truth, prediction):
        padded = np.pad(mask, 1)
        surface = []
        for i, j, k in np.argwhere(padded):
            faces = [(i - 1, j, k), (i + 1, j, k), (i, j - 1, k), (i, j + 1, k), (i, j, k - 1), (i, j, k + 1)]
            if not all(padded[face] for face in faces):
                surface.append((i, j, k))
        points.append(np.array(surface) * spacing_mm)
    pairs = cdist(*points)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    hd95 = max(np.quantile(there, 0.95), np.quantile(back, 0.95))
    return float(hd95), float((there.sum() + back.sum()) / (len(there) + len(back)))


def test_dice_by_hand() -> None:
    truth = np.array([[[0, 0, 1, 1, 2]]])
    prediction = np.array([[[0, 1, 1, 1, 0]]])
    dice = dice_per_class(truth, prediction, 4)
    assert dice[:3] == pytest.approx([2 * 1 / (2 + 2), 2 * 2 / (2 + 3), 0])
    assert math.isnan(dice[3])


def test_dice_of_masks_and_empty_volumes() -> None:
    mask = np.array([[[True, False]]])
    assert dice_per_class(mask, mask, 2).tolist() == [1, 1]
    assert np.isnan(dice_per_class(np.zeros((0, 2, 2), int), np.zeros((0, 2, 2), int), 2)).all()


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_distances_match_brute_force(seed: int, spacing_mm: SpacingMm) -> None:
    truth, prediction = blobs(seed), blobs(seed + 100)
    for index in range(1, 4):
        distances = surface_distances(truth == index, prediction == index, spacing_mm)
        expected = brute_force(truth == index, prediction == index, spacing_mm)
        assert dataclasses.astuple(distances) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", [3, 4])
def test_scores_match_monai(seed: int, spacing_mm: SpacingMm) -> None:
    peers = monai_or_skip("monai.metrics")
    truth, prediction = blobs(seed), blobs(seed + 100)
    onehot = [torch.nn.functional.one_hot(torch.as_tensor(m).long()).movedim(-1, 0)[None] for m in (prediction, truth)]
    score = score_subject(truth, prediction, spacing_mm, NAMES)
    peer = {
        "dice": peers.compute_dice(*onehot, include_background=False),
        "hd95_mm": peers.compute_hausdorff_distance(*onehot, percentile=95, spacing=spacing_mm),
        "asd_mm": peers.compute_average_surface_distance(*onehot, symmetric=True, spacing=spacing_mm),
    }
    for name, values in peer.items():
        assert list(getattr(score, name).values()) == pytest.approx(values[0].tolist(), rel=1e-5), name


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_distance_of_concentric_balls_is_the_difference_of_their_radii(spacing_mm: SpacingMm) -> None:
    shape = tuple(math.ceil(28 / step) for step in spacing_mm)
    distances = surface_distances(ball(8, spacing_mm, shape), ball(12, spacing_mm, shape), spacing_mm)
    diagonal = math.dist(spacing_mm, (0, 0, 0))
    assert distances.hd95_mm == pytest.approx(4, abs=diagonal)
    assert distances.asd_mm == pytest.approx(4, abs=diagonal)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_distances_of_a_shifted_ball(spacing_mm: SpacingMm) -> None:
    # Radius r, shift d: the surface distance towards the shift is | |x - d| - r |, cos uniform in -1..1 on the sphere.
    radius, shift = 10.0, 5.0
    shape = tuple(math.ceil(36 / step) for step in spacing_mm)
    cos = np.linspace(-1, 1, 100001)
    analytic = np.abs(np.sqrt(radius**2 + shift**2 - 2 * radius * shift * cos) - radius)
    diagonal = math.dist(spacing_mm, (0, 0, 0))
    moved = ball(radius, spacing_mm, shape, (0, 0, shift))
    distances = surface_distances(ball(radius, spacing_mm, shape), moved, spacing_mm)
    assert distances.hd95_mm == pytest.approx(np.percentile(analytic, 95), abs=diagonal)
    assert distances.asd_mm == pytest.approx(analytic.mean(), abs=diagonal)


@pytest.mark.parametrize(("axis", "expected_mm"), [(0, 2.1), (1, 3.0), (2, 7.5)])
def test_distances_of_a_box_shifted_by_three_voxels(axis: int, expected_mm: float) -> None:
    # The far face is 9x9 of 9^3 - 7^3 = 386 surface voxels, more than 5 %: HD95 is the shift itself.
    truth, prediction = np.zeros((2, 18, 18, 18), bool)
    truth[4:13, 4:13, 4:13] = True
    start = [4, 4, 4]
    start[axis] = 7
    prediction[tuple(slice(s, s + 9) for s in start)] = True
    assert surface_distances(truth, prediction, (0.7, 1.0, 2.5)).hd95_mm == pytest.approx(expected_mm)


def test_distance_between_two_voxels() -> None:
    truth, prediction = np.zeros((2, 5, 5, 5), bool)
    truth[0, 0, 0] = prediction[3, 4, 0] = True
    distances = surface_distances(truth, prediction, (2.0, 1.0, 1.0))
    assert distances.hd95_mm == pytest.approx(math.hypot(6, 4))
    assert distances.asd_mm == pytest.approx(math.hypot(6, 4))


def test_hd95_is_the_larger_of_the_two_directions() -> None:
    # Every voxel of the truth is near the prediction, but not the other way round.
    truth, prediction = np.zeros((2, 3, 3, 40), bool)
    truth[1, 1, :10] = True
    prediction[1, 1, :30] = True
    distances = surface_distances(truth, prediction, (1, 1, 1))
    outward = np.maximum(np.arange(30) - 9, 0)
    assert distances.hd95_mm == pytest.approx(np.percentile(outward, 95))
    assert distances.asd_mm == pytest.approx(outward.sum() / 40)
    assert surface_distances(prediction, truth, (1, 1, 1)) == distances


def test_border_of_the_volume_is_a_surface() -> None:
    # Filling the volume, the truth has its surface on the border; the prediction is one voxel smaller all around.
    truth = np.ones((8, 8, 8), bool)
    prediction = np.zeros_like(truth)
    prediction[1:-1, 1:-1, 1:-1] = True
    distances = surface_distances(truth, prediction, (1, 1, 1))
    assert distances.asd_mm > 0.9
    assert surface_distances(truth, truth, (1, 1, 1)).asd_mm == 0


def test_distances_do_not_depend_on_the_surroundings() -> None:
    truth, prediction = blobs(5) == 1, blobs(6) == 1
    expected = surface_distances(truth, prediction, (1, 2, 3))
    around = ((7, 3), (0, 9), (4, 4))
    assert surface_distances(np.pad(truth, around), np.pad(prediction, around), (1, 2, 3)) == expected


def test_absent_classes_are_not_scored_and_missed_ones_are_listed() -> None:
    truth, prediction = np.zeros((2, 6, 6, 6), np.uint8)
    truth[1:3, 1:3, 1:3] = 1
    prediction[1:3, 1:3, 1:3] = 1
    truth[4:, 4:, 4:] = 2  # missed altogether; WM is in neither
    score = score_subject(truth, prediction, (1, 1, 2), NAMES)
    assert score.dice["CSF"] == 1
    assert (score.hd95_mm["CSF"], score.asd_mm["CSF"]) == (0, 0)
    assert score.dice["GM"] == 0
    assert score.missed == ("GM",)
    assert all(math.isnan(v) for v in (score.hd95_mm["GM"], score.asd_mm["GM"]))
    assert all(math.isnan(getattr(score, name)["WM"]) for name in ("dice", "hd95_mm", "asd_mm"))
    assert score.volume_ml["CSF"] == pytest.approx({"truth": 0.016, "prediction": 0.016})
    assert score.volume_ml["GM"] == pytest.approx({"truth": 0.016, "prediction": 0})
    assert score.mean_dice == pytest.approx(0.5)
    false_alarm = score_subject(prediction, truth, (1, 1, 2), NAMES)
    assert false_alarm.missed == ("GM",)
    assert false_alarm.dice["GM"] == 0


def test_means_carry_the_number_of_values() -> None:
    perfect = np.zeros((6, 6, 6), np.uint8)
    perfect[1:4, 1:4, 1:4] = 1
    empty = np.zeros_like(perfect)
    names = ("background", "lesion", "never")
    scores = [score_subject(t, p, (1, 1, 1), names) for t, p in [(perfect, perfect), (perfect, empty), (empty, empty)]]
    mean = summarise(scores)
    assert mean.dice["lesion"] == pytest.approx(0.5)
    assert mean.hd95_mm["lesion"] == 0
    assert (mean.n, mean.missed) == ({"lesion": 2, "never": 0}, {"lesion": 1, "never": 0})
    assert math.isnan(mean.dice["never"])
    assert mean.mean_dice == pytest.approx(0.5)
    assert set(mean.to_json()) == {"dice", "hd95_mm", "asd_mm", "n", "missed", "surface_dice"}
    assert set(scores[0].to_json()) == {"dice", "hd95_mm", "asd_mm", "missed", "volume_ml", "surface_dice"}
    json.dumps([mean.to_json(), scores[1].to_json()])


def test_mean_of_no_scores_is_empty() -> None:
    assert summarise([]) == MeanScore({}, {}, {}, {}, {})
    assert math.isnan(summarise([]).mean_dice)
    assert math.isnan(SubjectScore({}, {}, {}, (), {}).mean_dice)
    assert nan_mean([math.nan, 1, 3]) == 2


def test_invalid_input_is_refused() -> None:
    volume = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        score_subject(volume, volume[1:], (1, 1, 1), NAMES)
    with pytest.raises(ValueError, match="one shape"):
        surface_distances(volume > 0, volume[1:] > 0, (1, 1, 1))
    with pytest.raises(ValueError, match="indices 0 to 3 as prediction, got 0 to 7"):
        score_subject(volume, np.where(np.arange(3) == 2, 7, volume), (1, 1, 1), NAMES)
    with pytest.raises(ValueError, match="as truth, got -1"):
        score_subject(volume.astype(int) - 1, volume, (1, 1, 1), NAMES)
    with pytest.raises(ValueError, match="integer class indices as truth, got float32"):
        dice_per_class(volume.astype(np.float32), volume, 4)
    for spacing_mm in [(1, 1), (1, 0, 1), (1, math.nan, 1)]:
        with pytest.raises(ValueError, match="three positive voxel sizes"):
            score_subject(volume, volume, spacing_mm, NAMES)


def test_importing_needs_neither_torch_nor_scipy() -> None:
    code = "import sys, core.evaluation.metrics; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_json_has_every_figure_under_its_name() -> None:
    volume_ml, within = {"a": {"truth": 3.0, "prediction": 4.0}}, {"a": {"1": 0.75}}
    score = SubjectScore({"a": 0.5}, {"a": 2.0}, {"a": 1.0}, ("b",), volume_ml, within)
    values = {"dice": {"a": 0.5}, "hd95_mm": {"a": 2.0}, "asd_mm": {"a": 1.0}, "surface_dice": within}
    volumes = {"a": {"truth": 3.0, "prediction": 4.0}}
    assert score.to_json() == {**values, "missed": ["b"], "volume_ml": volumes}
    assert summarise([score]).to_json() == {**values, "n": {"a": 1}, "missed": {"a": 0}}


def test_means_of_subjects_with_different_classes_use_the_subjects_that_have_each_class() -> None:
    first = SubjectScore({"a": 0.5, "b": 0.25}, {"a": 2.0, "b": 8.0}, {"a": 1.0, "b": 4.0}, (), {})
    second = SubjectScore({"a": 0.75}, {"a": 4.0}, {"a": 3.0}, (), {})
    mean = summarise([first, second])
    assert mean.dice == {"a": 0.625, "b": 0.25}
    assert mean.hd95_mm == {"a": 3.0, "b": 8.0}
    assert mean.asd_mm == {"a": 2.0, "b": 4.0}
    assert mean.n == {"a": 2, "b": 1}


def test_classes_without_voxels_are_nan_without_a_division_by_zero() -> None:
    with np.errstate(all="raise"):
        dice = dice_from_counts(np.array([0, 3, 0]), np.array([0, 1, 2]), np.array([0, 1, 0]))
    assert math.isnan(dice[0]) and dice[1:].tolist() == [0.75, 0.0]


@pytest.mark.parametrize("index", [2, -1])
def test_class_indices_outside_the_range_are_refused(index: int) -> None:
    labels, wrong = np.zeros((2, 2, 2), np.int16), np.full((2, 2, 2), index, np.int16)
    for truth, prediction in ((labels, wrong), (wrong, labels)):
        with pytest.raises(ValueError, match="0 to 1"):
            dice_per_class(truth, prediction, 2)


TILTED = np.array([[1.0, 0, 0], [0, 1, 5 * np.tan(np.deg2rad(30))], [0, 0, 5]])  # gantry tilt, columns are steps


@pytest.mark.parametrize("axes_mm", [TILTED, np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] @ TILTED])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_on_sheared_axes_match_brute_force_in_mm(seed: int, axes_mm: np.ndarray) -> None:
    truth, prediction = blobs(seed) == 1, blobs(seed + 100) == 1
    points = []
    for mask in (truth, prediction):
        surface = mask & ~ndimage.binary_erosion(mask)
        points.append(np.argwhere(surface) @ axes_mm.T)
    pairs = cdist(*points)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    distances = surface_distances(truth, prediction, axes_mm)
    assert distances.hd95_mm == pytest.approx(max(np.quantile(there, 0.95), np.quantile(back, 0.95)), rel=1e-9)
    assert distances.asd_mm == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)), rel=1e-9)


def test_volumes_on_sheared_axes_are_by_the_determinant() -> None:
    truth = blobs(0)
    voxels = int((truth == 1).sum())
    assert score_subject(truth, truth, TILTED, NAMES).volume_ml["CSF"]["truth"] == pytest.approx(voxels * 5 / 1000)
    flipped = TILTED @ np.diag([1, -1, 1])
    assert score_subject(truth, truth, flipped, NAMES).volume_ml["CSF"]["truth"] == pytest.approx(voxels * 5 / 1000)


def test_steps_at_right_angles_give_the_scores_of_their_lengths() -> None:
    truth, prediction = blobs(2) == 1, blobs(102) == 1
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    expected = dataclasses.astuple(surface_distances(truth, prediction, SPACINGS[1]))
    steps = surface_distances(truth, prediction, rotation @ np.diag(SPACINGS[1]))
    assert dataclasses.astuple(steps) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="three steps"):
        surface_distances(truth, prediction, np.zeros((3, 3)))


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_scores_beside_ignored_voxels_are_those_of_the_other_voxels(spacing_mm: SpacingMm) -> None:
    truth, prediction = blobs(3), blobs(103)
    whole = truth.copy()
    whole[11:] = IGNORE_INDEX
    score = score_subject(whole, prediction, spacing_mm, NAMES)
    cropped = score_subject(truth[:11], prediction[:11], spacing_mm, NAMES)
    assert score == cropped
    assert np.array_equal(dice_per_class(whole, prediction, 4), dice_per_class(truth[:11], prediction[:11], 4))


def test_prediction_in_ignored_voxels_costs_nothing() -> None:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[2:5, 2:5, 2:5], truth[7:] = 1, IGNORE_INDEX
    prediction = np.where(truth == IGNORE_INDEX, 1, truth)
    score = score_subject(truth, prediction, (1, 1, 1), ("background", "a"))
    assert (score.dice["a"], score.hd95_mm["a"], score.asd_mm["a"]) == (1, 0, 0)
    assert score.volume_ml["a"] == {"truth": 0.027, "prediction": 0.027} and score.missed == ()


def test_class_in_ignored_voxels_only_is_not_scored() -> None:
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[3:] = IGNORE_INDEX
    prediction = np.zeros_like(truth)
    prediction[4:] = 1
    score = score_subject(truth, prediction, (1, 1, 1), ("background", "a"))
    assert math.isnan(score.dice["a"]) and score.missed == ()
    everything = score_subject(np.full_like(truth, IGNORE_INDEX), prediction, (1, 1, 1), ("background", "a"))
    assert math.isnan(everything.dice["a"]) and everything.volume_ml["a"] == {"truth": 0, "prediction": 0}


def test_region_is_scored_as_one_structure_after_the_classes() -> None:
    """A row of the classes a a b b -, predicted b a b - b: the union is hit in three voxels of four, by hand."""
    truth, prediction = (np.array(v, np.uint8).reshape(5, 1, 1) for v in ([1, 1, 2, 2, 0], [2, 1, 2, 0, 2]))
    regions = region_space({"both": ("a", "b"), "b": ("b",)}, {}, ("background", "a", "b"))
    score = score_subject(truth, prediction, (1, 1, 1), ("background", "a", "b"), regions, ("both", "b"))
    assert list(score.dice) == ["a", "b", "both"], "b has one score"
    assert score.dice == pytest.approx({"a": 2 / 3, "b": 2 / 5, "both": 6 / 8})
    assert score.volume_ml["both"] == pytest.approx({"truth": 0.004, "prediction": 0.004})
    assert score.mean_dice == pytest.approx((2 / 5 + 6 / 8) / 2), "of the regions"
    one_structure = score_subject(
        (truth > 0).astype(np.uint8), (prediction > 0).astype(np.uint8), (1, 1, 1), ("-", "c")
    )
    assert (score.hd95_mm["both"], score.asd_mm["both"]) == (one_structure.hd95_mm["c"], one_structure.asd_mm["c"])
    assert score.to_json()["in_mean"] == ["both", "b"] and summarise([score]).mean_dice == score.mean_dice
    plain = score_subject(truth, prediction, (1, 1, 1), ("background", "a", "b"))
    assert "in_mean" not in plain.to_json() and plain.mean_dice == pytest.approx((2 / 3 + 2 / 5) / 2)
