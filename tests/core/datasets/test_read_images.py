"""Images of one subject from several files, or from one file with several channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets.single_case import read_images
from core.errors import DatasetError, VolumeError
from tests.support.balls import SPACING_MM, balls
from tests.support.volume_files import write_analyze, write_nifti

AFFINE = np.diag([*SPACING_MM, 1.0])


def test_channels_are_read_from_several_files_or_one(tmp_path: Path) -> None:
    image, _ = balls(81, channels=2)
    t1, t2 = (write_nifti(tmp_path / f"sub-1_{n}.nii.gz", image[c], AFFINE) for c, n in enumerate(("T1", "T2")))
    both = write_nifti(tmp_path / "both.nii.gz", np.moveaxis(image, 0, -1), AFFINE)
    np.testing.assert_array_equal(read_images([t1, t2], ("T1", "T2")).image, image)
    np.testing.assert_array_equal(read_images([both], ("T1", "T2")).image, image)


def test_images_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    image, _ = balls(82, channels=2)
    t1, t2 = (write_nifti(tmp_path / f"sub-1_{n}.nii.gz", image[c], AFFINE) for c, n in enumerate(("T1", "T2")))
    both = write_nifti(tmp_path / "both.nii.gz", np.moveaxis(image, 0, -1), AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] = 30
    elsewhere = write_nifti(tmp_path / "elsewhere.nii.gz", image[1], moved)
    with pytest.raises(VolumeError, match=r"2 images .*T1, T2.*1 image"):
        read_images([t1], ("T1", "T2"))
    with pytest.raises(VolumeError, match=r"1 image .*T1.*2 channels"):
        read_images([both], ("T1",))
    with pytest.raises(VolumeError, match="T1, but its name .* T2; swap them"):
        read_images([t2, t1], ("T1", "T2"))
    with pytest.raises(VolumeError, match="2 channels"):
        read_images([both, t1], ("T1", "T2"))
    with pytest.raises(DatasetError, match="elsewhere|first image"):
        read_images([t1, elsewhere], ("T1", "T2"))
    with pytest.raises(VolumeError, match="missing"):
        read_images([tmp_path / "missing.nii.gz"], ("T1",))


def test_image_without_orientation_is_taken_as_stored(tmp_path: Path) -> None:
    image, _ = balls(83)
    pair = write_analyze(tmp_path / "scan", image[0], SPACING_MM)
    subject = read_images([pair], ("M0",))
    np.testing.assert_array_equal(subject.image, image)
    assert not subject.stored.oriented and subject.geometry.spacing_mm == SPACING_MM
