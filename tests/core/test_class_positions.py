"""Positions of classes against hand-computed ones; which classes lie as mirror images of each other."""

from __future__ import annotations

import numpy as np
import pytest

from core.class_positions import (
    ClassPositions,
    are_mirror_images,
    are_strict_mirror_images,
    lies_on_side,
    measure_positions,
    reversed_subjects,
    unnamed_mirror_images,
)
from tests.support.kidneys import boxes, kidneys

SHAPE = (30, 20, 20)


def subjects(
    *centres: tuple[int, int, int], image: np.ndarray | None = None, count: int = 4, classes: int = 0
) -> list[ClassPositions]:
    label = boxes(SHAPE, *centres)
    classes = classes or 1 + len(centres)
    return [measure_positions(f"s{n}", label, classes, (1.0, 1.0, 1.0), image) for n in range(count)]


def test_centre_and_extent_of_a_box_by_hand() -> None:
    label = np.zeros((10, 8, 6), np.uint8)
    label[2:5, 1:3, 4] = 1
    label[0, 0, 0] = 255
    image = np.arange(480.0).reshape(1, 10, 8, 6)
    found = measure_positions("s", label, 3, (2.0, 1.0, 3.0), image)
    assert found.voxels.tolist() == [0, 6, 0]
    assert found.centre_mm[1].tolist() == [6.0, 1.5, 12.0] and found.width_mm == 18
    # The standard deviation of a box of n voxels is sqrt(n^2 / 12).
    assert found.extent_mm[1] == pytest.approx(np.array([3 * 2, 2, 3]) / np.sqrt(12))
    assert found.intensity[1] == pytest.approx(image[0, 2:5, 1:3, 4].mean())
    assert found.intensity_std[1] == pytest.approx(image[0, 2:5, 1:3, 4].std())
    assert np.isnan(found.centre_mm[2]).all()


def test_large_label_maps_are_measured_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    label = boxes((60, 60, 60), (20, 30, 30), half=9)
    whole = measure_positions("s", label, 2, (1.0, 1.0, 1.0))
    monkeypatch.setattr("core.class_positions.MEASURED_VOXELS", 60**3 // 8)
    part = measure_positions("s", label, 2, (1.0, 1.0, 1.0))
    assert part.voxels[1] < whole.voxels[1] / 6 and part.width_mm == whole.width_mm
    np.testing.assert_allclose(part.centre_mm[1], whole.centre_mm[1], atol=1)


def test_classes_side_by_side_are_mirror_images() -> None:
    assert are_mirror_images(subjects((6, 10, 10), (23, 10, 10)), 1, 2)
    assert are_mirror_images(subjects((6, 10, 8), (23, 11, 12)), 1, 2), "one kidney is lower than the other"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((8, 5, 10), (20, 15, 10)),  # one behind the other, as the atria of the heart
        ((8, 10, 4), (20, 10, 16)),
        ((14, 5, 10), (15, 15, 10)),  # not side by side
    ],
)
def test_classes_at_other_depth_or_height_are_not(first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
    assert are_mirror_images(subjects(first, second), 1, 2) is False


def test_classes_of_very_different_volume_are_not() -> None:
    label = boxes(SHAPE, (23, 10, 10), half=2) * 2
    label[boxes(SHAPE, (6, 10, 10), half=4) > 0] = 1
    assert are_mirror_images([measure_positions("s", label, 3, (1.0, 1.0, 1.0))], 1, 2) is False


def test_classes_that_are_never_together_are_undecided() -> None:
    assert are_mirror_images(subjects((6, 10, 10), classes=3), 1, 2) is None
    assert are_mirror_images([], 1, 2) is None


def test_anisotropic_voxels_are_compared_in_mm() -> None:
    label = boxes(SHAPE, (6, 10, 8), (23, 10, 12))
    assert are_mirror_images([measure_positions("s", label, 3, (1.0, 1.0, 1.0))], 1, 2)
    assert are_mirror_images([measure_positions("s", label, 3, (0.4, 1.0, 6.0))], 1, 2) is False


def test_subjects_with_exchanged_sides_are_named() -> None:
    straight, exchanged = subjects((6, 10, 10), (23, 10, 10), count=1), subjects((23, 10, 10), (6, 10, 10), count=1)
    assert reversed_subjects(straight, 1, 2) == () and reversed_subjects(exchanged, 1, 2) == ("s0",)


def test_a_class_lies_on_a_side_if_it_does_in_all_subjects() -> None:
    assert lies_on_side(subjects((6, 10, 10)), 1, "left") and not lies_on_side(subjects((6, 10, 10)), 1, "right")
    assert lies_on_side(subjects((24, 10, 10)), 1, "right")
    assert not lies_on_side(subjects((15, 10, 10)), 1, "left"), "a vertebra"
    assert not lies_on_side(subjects((6, 10, 10), count=2), 1, "left"), "too few"


# --- without names ----------------------------------------------------------------------------------------------------


def measured_kidneys(count: int = 6, **values: float) -> list[ClassPositions]:
    made = []
    for seed in range(count):
        image, label = kidneys(seed, **values)  # type: ignore[arg-type]
        made.append(measure_positions(f"s{seed}", label, 3, (1.0, 1.0, 1.0), image[None]))
    return made


def test_mirror_images_are_found_without_names() -> None:
    assert unnamed_mirror_images(measured_kidneys(), [1, 2]) == ((1, 2),)
    assert unnamed_mirror_images(measured_kidneys(), [2, 1]) == ((1, 2),), "the left one first"


def test_exchanged_sides_and_other_extents_are_no_strict_mirror_images() -> None:
    straight, exchanged = subjects((6, 10, 10), (23, 10, 10)), subjects((23, 10, 10), (6, 10, 10))
    assert are_strict_mirror_images(straight, 1, 2)
    assert not are_strict_mirror_images([*straight, *exchanged], 1, 2)
    label = boxes(SHAPE, (6, 10, 10), half=2)
    label[22:25, 6:15, 8:13] = 2  # a crescent beside a ball: the ventricles of the heart in the short axis
    measured = [measure_positions(f"s{n}", label, 3, (1.0, 1.0, 1.0)) for n in range(4)]
    assert not are_strict_mirror_images(measured, 1, 2) and are_mirror_images(measured, 1, 2) is False


def test_few_subjects_another_height_or_another_intensity_are_no_suspicion() -> None:
    assert unnamed_mirror_images(measured_kidneys(2), [1, 2]) == ()
    assert unnamed_mirror_images(measured_kidneys(lift=5), [1, 2]) == ()
    image = np.random.default_rng(0).normal(0, 1, (1, *SHAPE))
    at = (6, 10, 10), (23, 10, 10)
    assert unnamed_mirror_images(subjects(*at, image=image), [1, 2]) == ((1, 2),)
    assert unnamed_mirror_images(subjects(*at, image=image + 3 * (boxes(SHAPE, *at) == 2)), [1, 2]) == ()


def test_classes_on_one_side_of_the_middle_are_no_suspicion() -> None:
    assert unnamed_mirror_images(subjects((3, 10, 10), (12, 10, 10)), [1, 2]) == ()


def test_a_class_is_suspected_once_among_many() -> None:
    found = unnamed_mirror_images(
        subjects((4, 10, 10), (25, 10, 10), (9, 3, 10), (20, 3, 10), (15, 10, 4)), range(1, 6)
    )
    assert found == ((1, 2), (3, 4))


def test_absent_classes_are_no_suspicion() -> None:
    assert unnamed_mirror_images(subjects((4, 10, 10), (25, 10, 10), classes=6), range(1, 6)) == ((1, 2),)
    assert unnamed_mirror_images([], [1, 2]) == ()
