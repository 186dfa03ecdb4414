"""Cropped sub-volumes against NumPy slices, and the distribution of drawn locations."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from core.config import SamplingConfig
from core.labels import IGNORE_INDEX
from core.sampling import patches, voxel_sets
from core.sampling.patches import PatchLocation, PatchSampler, ResidentSubjects
from core.types import Size3, TrainingSubject, VoxelIndex

AROUND = 40  # voxels of zeros around the numpy volume that crops are compared with


def subject(shape: Size3, label: np.ndarray | None = None, seed: int = 0, channels: int = 2) -> TrainingSubject:
    """Random intensities, and a random label of four classes unless one is given."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, *shape)).astype(np.float32)
    if label is None:
        label = rng.integers(0, 4, shape)
    return TrainingSubject(f"s{seed}", image, label.astype(np.uint8), (1.0, 1.0, 1.0))


def on_cpu(*subjects: TrainingSubject) -> ResidentSubjects:
    return ResidentSubjects(subjects, torch.device("cpu"))


def test_resident_subjects_keep_no_image_in_single_precision() -> None:
    given = subject((6, 5, 4))
    image = weakref.ref(given.image)
    resident = on_cpu(given)
    del given
    assert image() is None and resident.present(0) == (True, True)


def by_numpy(volume: np.ndarray, start: VoxelIndex, size: Size3) -> np.ndarray:
    wide = np.pad(volume, [(0, 0)] * (volume.ndim - 3) + [(AROUND, AROUND)] * 3)
    i, j, k = (slice(s + AROUND, s + AROUND + n) for s, n in zip(start, size, strict=True))
    return wide[..., i, j, k]


def sampler(
    subjects: list[TrainingSubject], size: Size3, classes: int = 4, foreground: float = 0.0, threshold: float = 0.0
) -> PatchSampler:
    return PatchSampler(subjects, size, SamplingConfig(foreground=foreground, threshold=threshold), classes)


def draw(patch_sampler: PatchSampler, count: int, seed: int = 0) -> list[PatchLocation]:
    return patch_sampler.draw(count, torch.Generator().manual_seed(seed))


def labels_at(subjects: list[TrainingSubject], locations: list[PatchLocation], size: Size3) -> list[np.ndarray]:
    return [by_numpy(subjects[p.subject].label, p.start, size) for p in locations]


# --- cutting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "size"),
    [
        ((0, 0, 0), (7, 9, 5)),
        ((2, 3, 1), (4, 2, 3)),
        ((-3, 2, 1), (6, 4, 3)),
        ((5, 6, 4), (4, 8, 3)),
        ((-2, -3, -1), (12, 15, 8)),
        ((-4, 0, 0), (4, 3, 3)),
        ((-9, 1, 1), (4, 3, 3)),
        ((7, 0, 0), (3, 3, 3)),
        ((1, 1, 30), (3, 3, 3)),
        ((-20, 30, 2), (3, 5, 2)),
    ],
)
def test_crop_equals_a_slice_of_the_padded_volume(start: VoxelIndex, size: Size3) -> None:
    one, other = subject((7, 9, 5), seed=1), subject((8, 6, 10), seed=2)
    image, label = on_cpu(one, other).crop([PatchLocation(1, start), PatchLocation(0, start)], size)
    assert image.dtype == torch.float32 and image.shape == (2, 2, *size)
    assert label.dtype == torch.uint8 and label.shape == (2, *size)
    for n, source in enumerate((other, one)):
        kept = source.image.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(image[n].numpy(), by_numpy(kept, start, size))
        np.testing.assert_array_equal(label[n].numpy(), by_numpy(source.label, start, size))


def test_crops_are_float32_copies_of_any_stored_array() -> None:
    stored = subject((6, 6, 6), channels=1)
    halved = TrainingSubject("half", stored.image.astype(np.float16), stored.label[::-1], stored.spacing_mm)
    device = on_cpu(halved)
    image, label = device.crop([PatchLocation(0, (0, 0, 0))], (6, 6, 6))
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image[0].numpy(), halved.image.astype(np.float32))
    np.testing.assert_array_equal(label[0].numpy(), stored.label[::-1])
    image.zero_()
    label.zero_()
    assert device.images[0].any() and device.labels[0].any()


def test_crop_volume_returns_a_new_zero_padded_tensor() -> None:
    volume = torch.arange(2 * 7 * 9 * 5).reshape(2, 7, 9, 5)
    for start in [(0, 0, 0), (-3, 4, 2), (9, 0, 0), (-9, 0, 0)]:
        box = patches.crop_volume(volume, start, (4, 6, 3))
        np.testing.assert_array_equal(box.numpy(), by_numpy(volume.numpy(), start, (4, 6, 3)))
        box.zero_()
    assert volume[1].all()


def test_resident_subjects_count_their_bytes() -> None:
    device = on_cpu(subject((3, 4, 5), seed=1), subject((2, 2, 2), seed=2))
    assert (len(device), device.ids) == (2, ["s1", "s2"])
    assert device.nbytes == (60 + 8) * (2 * 2 + 1)


def test_intensities_beyond_float16_are_clipped() -> None:
    image = np.array([-1e9, -2.0, 0.0, 7e4, np.inf], np.float32).reshape(1, 5, 1, 1)
    device = on_cpu(TrainingSubject("s", image, np.zeros((5, 1, 1), np.uint8), (1, 1, 1)))
    assert device.image(0).flatten().tolist() == [-65504, -2, 0, 65504, 65504]


# --- uniform ----------------------------------------------------------------------------------------------------------


def test_start_is_uniform_over_all_positions_inside() -> None:
    locations = Counter(p.start for p in draw(sampler([subject((6, 5, 4))], (4, 4, 4)), 600))
    assert set(locations) == {(i, j, 0) for i in range(3) for j in range(2)}
    assert all(70 <= n <= 130 for n in locations.values())


def test_subjects_are_used_equally_often_in_changing_order() -> None:
    patches_of_three = sampler([subject((5, 5, 5), seed=n) for n in range(3)], (4, 4, 4))
    used = [p.subject for p in draw(patches_of_three, 30)]
    rounds = [tuple(used[n : n + 3]) for n in range(0, 30, 3)]
    assert all(sorted(r) == [0, 1, 2] for r in rounds)
    assert len(set(rounds)) > 2
    assert sorted(Counter(p.subject for p in draw(patches_of_three, 7)).values()) == [2, 2, 3]
    assert draw(patches_of_three, 0) == []


@pytest.mark.parametrize("foreground", [0.0, 1.0])
def test_padding_of_a_larger_sub_volume_spreads_over_both_sides(foreground: float) -> None:
    small = subject((5, 9, 8))
    locations = draw(sampler([small], (8, 4, 8), foreground=foreground), 200)
    assert {p.start[0] for p in locations} == {-3, -2, -1, 0}
    assert {p.start[1] for p in locations} == set(range(6))
    assert {p.start[2] for p in locations} == {0}
    image, _ = on_cpu(small).crop(locations, (8, 4, 8))
    padded = (image == 0).all(dim=(1, 3, 4)).sum(dim=1)
    assert (padded == 3).all()


# --- centred on a class -----------------------------------------------------------------------------------------------


def rare_and_common() -> np.ndarray:
    """Class 1 fills one end; class 3 is a single voxel in the far corner; class 2 is absent."""
    label = np.zeros((20, 12, 10), np.uint8)
    label[:8] = 1
    label[19, 11, 9] = 3
    return label


def test_foreground_picks_every_present_class_equally_often() -> None:
    size = (6, 6, 6)
    subjects = [subject((20, 12, 10), rare_and_common())]
    labels = labels_at(subjects, draw(sampler(subjects, size, foreground=1.0), 400), size)
    shown = Counter(frozenset(np.unique(label)) - {0} for label in labels)
    assert set(shown) == {frozenset({1}), frozenset({3})}
    assert 160 <= shown[frozenset({3})] <= 240


def test_foreground_sub_volume_is_centred_on_its_voxel_inside_the_subject() -> None:
    for voxel, start in {(9, 6, 5): (6, 3, 2), (0, 11, 1): (0, 6, 0), (19, 2, 9): (14, 0, 4)}.items():
        label = np.zeros((20, 12, 10), np.uint8)
        label[voxel] = 2
        (location,) = draw(sampler([subject(label.shape, label)], (6, 6, 6), foreground=1.0), 1)  # type: ignore[arg-type]
        assert location.start == start


@pytest.mark.slow
def test_foreground_is_the_share_of_centred_sub_volumes() -> None:
    size = (4, 4, 4)
    label = np.zeros((20, 20, 20), np.uint8)
    label[2, 2, 2] = 1
    subjects = [subject(label.shape, label)]  # type: ignore[arg-type]
    labels = labels_at(subjects, draw(sampler(subjects, size, foreground=0.3), 500), size)
    assert 120 <= sum(bool(cut.any()) for cut in labels) <= 190


@pytest.mark.slow
def test_centres_of_a_large_class_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxel_sets, "MAX_VOXELS", 50)
    size = (2, 2, 2)
    subjects = [subject((20, 12, 10), rare_and_common())]
    locations = draw(sampler(subjects, size, foreground=1.0, classes=2), 600)
    assert all((cut == 1).any() for cut in labels_at(subjects, locations, size))
    quarters = Counter(min(p.start[0] + 1, 7) // 2 for p in locations)
    assert sorted(quarters) == [0, 1, 2, 3]
    assert all(100 <= n <= 200 for n in quarters.values())


@pytest.mark.slow
@pytest.mark.parametrize("options", [dict(foreground=1.0), dict(threshold=0.3), dict(foreground=0.5, threshold=0.3)])
def test_subject_without_labels_is_sampled_uniformly(options: dict[str, Any]) -> None:
    empty = subject((6, 5, 4), np.zeros((6, 5, 4)))
    locations = draw(sampler([empty], (4, 4, 4), **options), 200)
    assert {p.start for p in locations} == {(i, j, 0) for i in range(3) for j in range(2)}


# --- threshold --------------------------------------------------------------------------------------------------------


def shares(cuts: list[np.ndarray]) -> np.ndarray:
    return np.array([(cut > 0).mean() for cut in cuts])


@pytest.mark.slow
def test_threshold_is_the_least_labelled_share() -> None:
    size = (4, 4, 4)
    label = np.zeros((12, 12, 12), np.uint8)
    label[:6, :, 3:] = 2
    subjects = [subject((12, 12, 12), label)]
    unbounded = shares(labels_at(subjects, draw(sampler(subjects, size), 200), size))
    assert unbounded.min() == 0
    for threshold in (0.25, 0.75):
        locations = draw(sampler(subjects, size, threshold=threshold), 200)
        assert shares(labels_at(subjects, locations, size)).min() >= threshold
        assert len({p.start for p in locations}) > 50


def test_unreachable_threshold_takes_the_best_of_the_tries() -> None:
    size = (4, 4, 4)
    label = np.zeros((10, 10, 10), np.uint8)
    label[3:6, 3:6, 3:6] = 1
    subjects = [subject((10, 10, 10), label)]
    best = shares(labels_at(subjects, draw(sampler(subjects, size, threshold=0.9), 40), size))
    plain = shares(labels_at(subjects, draw(sampler(subjects, size), 40), size))
    assert best.max() == 27 / 64
    assert best.min() >= 12 / 64
    assert best.mean() > 3 * plain.mean()


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, dict(foreground=0.5), dict(threshold=0.5), dict(foreground=0.5, threshold=0.7)]
)
def test_locations_depend_only_on_the_seed(options: dict[str, Any]) -> None:
    patches_of_three = sampler([subject((14, 15, 16), seed=n) for n in range(3)], (4, 4, 4), **options)
    assert draw(patches_of_three, 20, seed=3) == draw(patches_of_three, 20, seed=3)
    assert draw(patches_of_three, 20, seed=3) != draw(patches_of_three, 20, seed=4)
    again = sampler([subject((14, 15, 16), seed=n) for n in range(3)], (4, 4, 4), **options)
    assert draw(again, 20, seed=3) == draw(patches_of_three, 20, seed=3)


# --- boundaries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", ["before", "after"])
def test_patch_outside_the_volume_is_zero(axis: int, side: str) -> None:
    ones = TrainingSubject("ones", np.ones((1, 6, 6, 6), np.float32), np.ones((6, 6, 6), np.uint8), (1.0, 1.0, 1.0))
    start = [0, 0, 0]
    start[axis] = -4 if side == "before" else 6  # touches the volume, without sharing a voxel
    image, label = on_cpu(ones).crop([PatchLocation(0, (start[0], start[1], start[2]))], (4, 4, 4))
    assert not image.any() and not label.any()


def test_subjects_and_patches_are_on_the_chosen_device() -> None:
    resident = ResidentSubjects([subject((5, 5, 5))], torch.device("meta"))
    image, label = resident.crop([PatchLocation(0, (0, 0, 0))], (3, 3, 3))
    assert {resident.device.type, image.device.type, label.device.type, resident.image(0).device.type} == {"meta"}
    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)


def test_patches_of_half_precision_subjects_are_float32() -> None:
    image, _ = on_cpu(subject((5, 5, 5))).crop([PatchLocation(0, (0, 0, 0))], (3, 3, 3))
    assert image.dtype == torch.float32


def test_both_voxels_of_a_tiny_class_are_centres() -> None:
    label = np.zeros((12, 4, 4), np.uint8)
    label[2, 2, 2] = label[9, 2, 2] = 1
    subjects = [subject((12, 4, 4), label)]
    starts = Counter(p.start[0] for p in draw(sampler(subjects, (2, 2, 2), classes=2, foreground=1.0), 200))
    assert starts.keys() == {1, 8} and min(starts.values()) > 60


def test_the_same_seed_draws_the_same_around_classes_of_subjects_smaller_than_the_patch() -> None:
    subjects = [subject((3, 9, 3), seed=n) for n in range(3)]
    patch_sampler = sampler(subjects, (6, 6, 6), foreground=0.7)
    global_state = torch.random.get_rng_state()
    first = draw(patch_sampler, 40, seed=1)
    assert torch.equal(torch.random.get_rng_state(), global_state), "the global generator is never used"
    torch.manual_seed(99)
    assert draw(patch_sampler, 40, seed=1) == first
    assert len({p.start for p in first}) > 10


# --- the ignore label -------------------------------------------------------------------------------------------------


def partly_ignored() -> np.ndarray:
    """Class 1 in one corner, class 2 in the other one, all between them ignored."""
    label = np.full((24, 20, 16), IGNORE_INDEX, np.uint8)
    label[:4, :4, :4], label[20:, 16:, 12:] = 1, 2
    return label


def test_ignored_voxels_are_no_centres() -> None:
    subjects = [subject((24, 20, 16), partly_ignored())]
    locations = draw(sampler(subjects, (3, 3, 3), 3, foreground=1.0), 100)
    centres = [by_numpy(subjects[0].label, p.start, (3, 3, 3)) for p in locations]
    assert all(((cut > 0) & (cut != IGNORE_INDEX)).any() for cut in centres)
    both = [cut[cut != IGNORE_INDEX].max() for cut in centres]
    assert 30 < both.count(1) < 70 and both.count(1) + both.count(2) == 100


def test_ignored_voxels_are_not_labelled_for_the_threshold() -> None:
    label = np.zeros((30, 12, 12), np.uint8)
    label[:10], label[20:26] = IGNORE_INDEX, 1
    subjects = [subject(label.shape, label)]
    for cut in labels_at(subjects, draw(sampler(subjects, (8, 8, 8), 2, threshold=0.3), 60), (8, 8, 8)):
        assert (cut == 1).mean() >= 0.3


@pytest.mark.parametrize("size", [(4, 4, 4), (30, 30, 30)])
def test_no_sub_volume_consists_of_ignored_voxels_only(size: Size3) -> None:
    subjects = [subject((24, 20, 16), partly_ignored())]
    for cut in labels_at(subjects, draw(sampler(subjects, size, 3), 60), size):
        assert (cut != IGNORE_INDEX).any()


def test_single_annotated_voxel_is_found() -> None:
    label = np.full((60, 60, 60), IGNORE_INDEX, np.uint8)
    label[31, 17, 44] = 0
    subjects = [subject(label.shape, label)]
    for cut in labels_at(subjects, draw(sampler(subjects, (8, 8, 8), 2), 10), (8, 8, 8)):
        assert (cut == 0).sum() == 1


def test_wholly_ignored_subject_is_sampled_uniformly() -> None:
    subjects = [subject((9, 9, 9), np.full((9, 9, 9), IGNORE_INDEX))]
    assert len({p.start for p in draw(sampler(subjects, (4, 4, 4), 2, foreground=0.5, threshold=0.1), 50)}) > 20


def test_ignored_voxels_elsewhere_leave_the_draws_of_other_subjects_alone() -> None:
    """The same random numbers are used up as without the ignore label."""
    plain = [subject((20, 20, 20), seed=n) for n in (1, 2)]
    one_ignored = plain[0].label.copy()
    one_ignored[0, 0, 0] = IGNORE_INDEX
    other = [subject((20, 20, 20), one_ignored, seed=1), plain[1]]
    assert draw(sampler(plain, (8, 8, 8)), 20) == draw(sampler(other, (8, 8, 8)), 20)
