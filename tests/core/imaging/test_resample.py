"""Resampling: exact on linear ramps, anti-aliased, equal to torch in two dimensions; label maps keep their classes."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.resample import resample_image, resample_label, resample_nearest, resampled_shape, resampled_spacing


def test_resampled_shape_and_spacing() -> None:
    assert resampled_shape((10, 10, 10), (1, 1, 1), (2, 0.5, 3)) == (5, 20, 3)
    assert resampled_shape((10, 3, 1), (1, 1, 1), (100, 100, 0.8)) == (1, 1, 1)
    assert resampled_spacing((10, 10, 10), (1, 1, 1), (5, 20, 3)) == pytest.approx((2, 0.5, 10 / 3))


def test_linear_ramp_keeps_its_position() -> None:
    i = np.arange(12, dtype=np.float32)
    image = np.broadcast_to(i[:, None, None], (12, 3, 2))[None]
    finer = resample_image(image, (1, 1, 1), (0.5, 1, 1))[0, :, 0, 0]
    centres = (np.arange(24) + 0.5) / 2 - 0.5
    assert finer[1:-1] == pytest.approx(np.clip(centres, 0, 11)[1:-1])
    coarser = resample_image(image, (1, 1, 1), (3, 1, 1))[0, :, 0, 0]
    assert coarser[1:-1] == pytest.approx([4, 7])


def test_downsampling_is_anti_aliased() -> None:
    stripes = np.tile(np.array([0, 100], np.float32), 16)[None, :, None, None] * np.ones((1, 32, 2, 2), np.float32)
    coarse = resample_image(stripes, shape_to=(8, 2, 2))
    assert coarse[0, 1:-1] == pytest.approx(50, abs=1e-3)


@pytest.mark.parametrize("shape", [(5, 9), (9, 30), (16, 11), (23, 12)])
def test_planes_equal_torchs_antialiased_interpolation(shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    planes = np.random.default_rng(0).normal(size=(3, 16, 12)).astype(np.float32)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None], shape, mode="bilinear", antialias=True, align_corners=False
    )
    resampled = resample_image(planes[..., None], shape_to=(*shape, 1))[..., 0]
    assert resampled == pytest.approx(reference[0].numpy(), abs=1e-5)


def test_unchanged_shape_gives_a_copy() -> None:
    image = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    same = resample_image(image, (1, 1, 1), (1, 1, 1))
    assert np.array_equal(same, image) and not np.shares_memory(same, image)
    label = np.ones((4, 5, 6), np.uint8)
    assert np.array_equal(resample_label(label, (4, 5, 6)), label)
    assert not np.shares_memory(resample_label(label, (4, 5, 6)), label)


def test_label_map_keeps_classes_and_volumes() -> None:
    i, j, k = np.meshgrid(*(np.arange(20),) * 3, indexing="ij")
    distance = np.sqrt((i - 9.5) ** 2 + (j - 9.5) ** 2 + (k - 9.5) ** 2)
    label = np.where(distance < 4, 7, np.where(distance < 8, 3, 0)).astype(np.uint8)
    for shape in ((30, 25, 40), (15, 13, 16)):
        resampled = resample_label(label, shape)
        assert resampled.dtype == np.uint8 and resampled.shape == shape and set(np.unique(resampled)) == {0, 3, 7}
        voxel = label.size / np.prod(shape)
        for value in (3, 7):
            assert (resampled == value).sum() * voxel == pytest.approx((label == value).sum(), rel=0.12)


def test_label_map_survives_up_and_down_sampling() -> None:
    label = np.zeros((16, 16, 16), np.uint8)
    label[4:12, 4:12, 4:12] = 2
    finer = resample_label(label, (32, 32, 32))
    assert np.array_equal(resample_label(finer, (16, 16, 16)), label)


def test_tie_goes_to_the_lower_class() -> None:
    assert resample_label(np.array([1, 2], np.uint8)[:, None, None], (1, 1, 1)).item() == 1


def test_spacing_or_shape_is_required() -> None:
    with pytest.raises(ValueError, match="shape_to"):
        resample_image(np.zeros((1, 2, 2, 2), np.float32))


def test_ignored_voxels_are_resampled_like_a_class() -> None:
    label = np.zeros((12, 8, 8), np.uint8)
    label[6:] = 255
    label[2:4] = 1
    coarser = resample_label(label, (6, 8, 8))
    assert coarser[:, 0, 0].tolist() == [0, 1, 0, 255, 255, 255]
    finer = resample_label(label, (24, 8, 8))
    assert set(np.unique(finer)) == {0, 1, 255} and (finer == 255).sum() == 12 * 64


def test_nearest_takes_the_voxel_in_which_the_centre_lies() -> None:
    values = np.arange(6, dtype=np.int16).reshape(1, 6, 1, 1)
    assert resample_nearest(values, (12, 1, 1)).ravel().tolist() == [n // 2 for n in range(12)]
    assert resample_nearest(values, (4, 1, 1)).ravel().tolist() == [0, 2, 3, 5]
    volume = np.random.default_rng(0).normal(size=(4, 5, 6))
    np.testing.assert_array_equal(resample_nearest(volume, (8, 5, 18)), volume.repeat(2, 0).repeat(3, 2))
    assert resample_nearest(volume, (4, 5, 6)) is volume
