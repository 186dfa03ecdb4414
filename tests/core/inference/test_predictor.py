"""A trained network on images: on the image's own grid, whatever its orientation and voxel size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save
from core.datasets.single_case import read_images
from core.errors import CheckpointError, DatasetError, DeviceError, VolumeError
from core.evaluation.metrics import dice_per_class
from core.inference.predictor import Choices, Predictor
from tests.support.balls import SHAPE, SPACING_MM, balls
from tests.support.volume_files import write_analyze, write_nifti

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

AFFINE = np.diag([*SPACING_MM, 1.0])


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    return float(np.nanmean(dice_per_class(truth, found, 3)[1:]))


def test_an_unseen_volume(ball_run: BallRun) -> None:
    image, label = balls(77)
    segmenter = Predictor(ball_run.checkpoint)
    done: list[tuple[int, int]] = []
    found = segmenter.segment(image, SPACING_MM, lambda n, of: done.append((n, of)))
    assert found.shape == SHAPE and found.dtype == np.uint8
    assert dice(label, found) > 0.8
    assert done[-1][0] == done[-1][1] > 0


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_both_ways_through_a_volume_of_any_size(ball_run: BallRun, mode: str) -> None:
    image, label = balls(78, shape=(23, 27, 19))
    segmenter = Predictor(ball_run.checkpoint, Choices(mode=mode, overlap=0.25, precision="fp32"))
    assert segmenter.facts()["mode"] == mode
    assert dice(label, segmenter.segment(image, SPACING_MM)) > 0.6


def test_the_mirror_image_as_the_checkpoint_says_or_as_asked(ball_run: BallRun, tmp_path: Path) -> None:
    assert not Predictor(ball_run.checkpoint).mirror  # an old configuration does not know of it
    checkpoint = load(ball_run.checkpoint)
    checkpoint.description.config["validation"]["mirror"] = True
    save(tmp_path / "mirror.safetensors", checkpoint)
    image, label = balls(78)
    segmenter = Predictor(tmp_path / "mirror.safetensors")
    assert segmenter.mirror and segmenter.facts()["mirror"] is True
    assert dice(label, segmenter.segment(image, SPACING_MM)) > 0.8
    assert not Predictor(tmp_path / "mirror.safetensors", Choices(mirror=False)).mirror
    once = Predictor(ball_run.checkpoint, Choices(mirror=True))
    np.testing.assert_array_equal(
        once.segment(image[:, ::-1].copy(), SPACING_MM)[::-1], segmenter.segment(image, SPACING_MM)
    )


def test_too_little_memory_is_a_sentence_for_who_predicts(ball_run: BallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("core.inference.predictor.predict_logits", fail)
    with pytest.raises(
        DeviceError, match=r"does not fit into this machine's memory \(.* free now\); end other programs"
    ):
        Predictor(ball_run.checkpoint).segment(balls(78)[0], SPACING_MM)


def test_another_voxel_size_comes_back_to_the_images_own_grid(ball_run: BallRun, tmp_path: Path) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.description = replace(checkpoint.description, spacing_mm=SPACING_MM)
    save(tmp_path / "spaced.safetensors", checkpoint)
    image, label = balls(79)
    fine_image, fine_label = (np.repeat(np.repeat(a, 2, axis=-1), 2, axis=-2) for a in (image, label))
    spacing = (SPACING_MM[0], SPACING_MM[1] / 2, SPACING_MM[2] / 2)
    found = Predictor(tmp_path / "spaced.safetensors").segment(fine_image, spacing)
    assert found.shape == fine_label.shape
    assert dice(fine_label, found) > 0.75


def test_the_same_anatomy_stored_in_another_order_gives_the_same_segmentation(
    ball_run: BallRun, tmp_path: Path
) -> None:
    image, _ = balls(80)
    ras = write_nifti(tmp_path / "ras.nii.gz", image[0], AFFINE)
    flip = np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    las = write_nifti(tmp_path / "las.nii.gz", image[0, ::-1], AFFINE @ flip)
    segmenter = Predictor(ball_run.checkpoint)
    one, other = (read_images([path], ("M0",)) for path in (ras, las))
    np.testing.assert_array_equal(one.image, other.image)
    assert one.stored.axis_codes == ("R", "A", "S") and other.stored.axis_codes == ("L", "A", "S")
    first, second = (segmenter.segment(s.image, s.geometry.spacing_mm) for s in (one, other))
    np.testing.assert_array_equal(first, second)


def test_channels_from_several_files_or_one(tmp_path: Path) -> None:
    image, _ = balls(81, channels=2)
    t1, t2 = (write_nifti(tmp_path / f"sub-1_{n}.nii.gz", image[c], AFFINE) for c, n in enumerate(("T1", "T2")))
    both = write_nifti(tmp_path / "both.nii.gz", np.moveaxis(image, 0, -1), AFFINE)
    np.testing.assert_array_equal(read_images([t1, t2], ("T1", "T2")).image, image)
    np.testing.assert_array_equal(read_images([both], ("T1", "T2")).image, image)


def test_what_does_not_fit_the_network_is_one_clear_line(tmp_path: Path) -> None:
    image, _ = balls(82, channels=2)
    t1, t2 = (write_nifti(tmp_path / f"sub-1_{n}.nii.gz", image[c], AFFINE) for c, n in enumerate(("T1", "T2")))
    both = write_nifti(tmp_path / "both.nii.gz", np.moveaxis(image, 0, -1), AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] = 30
    elsewhere = write_nifti(tmp_path / "elsewhere.nii.gz", image[1], moved)
    with pytest.raises(VolumeError, match=r"expected 2 images in the order T1, T2, .*got 1 image"):
        read_images([t1], ("T1", "T2"))
    with pytest.raises(VolumeError, match=r"expected 1 image in the order T1, .*got 2 channels"):
        read_images([both], ("T1",))
    with pytest.raises(VolumeError, match="in the place of T1, but its name says T2; swap them"):
        read_images([t2, t1], ("T1", "T2"))
    with pytest.raises(VolumeError, match="expected one image per file where there are several, got 2 channels"):
        read_images([both, t1], ("T1", "T2"))
    with pytest.raises(DatasetError, match="the image does not fit the first image"):
        read_images([t1, elsewhere], ("T1", "T2"))
    with pytest.raises(VolumeError, match="missing"):
        read_images([tmp_path / "missing.nii.gz"], ("T1",))


def test_an_image_without_orientation_is_taken_as_stored(tmp_path: Path) -> None:
    image, _ = balls(83)
    pair = write_analyze(tmp_path / "scan", image[0], SPACING_MM)
    subject = read_images([pair], ("M0",))
    np.testing.assert_array_equal(subject.image, image)
    assert not subject.stored.oriented and subject.geometry.spacing_mm == SPACING_MM


@pytest.mark.parametrize("tile", [[0, 16, 16], [16, 16], "x", [99999, 16, 16]])
def test_a_checkpoint_that_lies_about_its_tiles(ball_run: BallRun, tmp_path: Path, tile: object) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.description.inference["tile"] = tile
    save(tmp_path / "odd.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match="sub-volume"):
        Predictor(tmp_path / "odd.safetensors")
