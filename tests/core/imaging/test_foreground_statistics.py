"""Statistics of labelled voxels by hand, and what is taken for computed tomography."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import DatasetError
from core.imaging import foreground_statistics
from core.imaging.foreground_statistics import ForegroundIntensities, is_in_hounsfield_units, is_named_ct
from core.labels import IGNORE_INDEX


def test_statistics_are_of_labelled_voxels_of_all_subjects_clipped_to_their_percentiles() -> None:
    first, second = np.arange(0, 1000, dtype=np.float32), np.arange(1000, 2000, dtype=np.float32)
    collected = ForegroundIntensities(1)
    for values in (first, second):
        image = np.full((1, 10, 10, 21), -1000, np.float32)
        label = np.zeros((10, 10, 21), np.uint8)
        image[0, :, :, :10], label[:, :, :10] = values.reshape(10, 10, 10), 3
        image[0, :, :, 10:20], label[:, :, 10:20] = 9999, IGNORE_INDEX
        collected.add(image, label)
    (found,) = collected.statistics()
    assert (found.low, found.high) == pytest.approx((9.995, 1989.005))
    clipped = np.arange(2000.0).clip(found.low, found.high)
    assert (found.mean, found.std) == pytest.approx((clipped.mean(), clipped.std()))


def test_outlier_and_metal_change_the_statistics_little() -> None:
    values = np.random.default_rng(0).normal(100, 20, (1, 30, 30, 30)).astype(np.float32)
    label = np.ones((30, 30, 30), np.uint8)
    found = []
    for outlier in (100, 3e5):
        values[0, 3, 3, 3:6] = outlier
        collected = ForegroundIntensities(1)
        collected.add(values, label)
        found.append(collected.statistics()[0])
    assert found[1].std == pytest.approx(found[0].std, rel=0.01) and found[1].high == pytest.approx(
        found[0].high, rel=0.01
    )


def test_large_subjects_count_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground_statistics, "VOXELS_PER_SUBJECT", 64)
    collected = ForegroundIntensities(1)
    for side, value in ((4, 0), (16, 100)):
        shape = (side, side, side)
        collected.add(np.full((1, *shape), value, np.float32), np.ones(shape, np.uint8))
    assert collected.statistics()[0].mean == pytest.approx(50)


def test_training_subjects_without_labelled_voxels_are_an_error() -> None:
    collected = ForegroundIntensities(1)
    collected.add(np.zeros((1, 4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(DatasetError, match="expected labelled voxels in the training subjects, found none"):
        collected.statistics()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("CT", True), ("ct", True), ("CT_venous", True), ("CBCT", True), ("CECT", True), ("abdomen-CT", True)]
    + [("T1", False), ("MRI", False), ("contrast", False), ("PET", False), ("vector", False), ("FLAIR", False)],
)
def test_ct_is_recognised_by_name(name: str, expected: bool) -> None:
    assert is_named_ct(name) == expected


def body(low: float = -1024) -> np.ndarray:
    image = np.full((24, 24, 24), low, np.float32)
    image[3:21, 3:21, 3:21] = np.random.default_rng(0).normal(30, 60, (18, 18, 18)).round()
    return image


def test_hounsfield_units_are_recognised_by_their_values() -> None:
    assert is_in_hounsfield_units(body()) and is_in_hounsfield_units(body(-3024))
    with_outlier = body()
    with_outlier[0, 0, 0] = 3e5
    assert is_in_hounsfield_units(with_outlier)


def test_other_intensities_are_not_taken_for_hounsfield_units() -> None:
    generator = np.random.default_rng(0)
    phase = generator.integers(-4096, 4096, (24, 24, 24)).astype(np.float32)
    mri, shifted = body(0).clip(0), body() + 1024
    fraction, outlier = body() + np.float32(0.25), body(0).clip(0)
    outlier[0, 0, 0] = -32768
    for image in (phase, mri, shifted, fraction, outlier, np.full((4, 4, 4), -1000, np.float32)):
        assert not is_in_hounsfield_units(image)
