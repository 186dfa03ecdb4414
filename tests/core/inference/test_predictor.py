"""Segmentation of images with a checkpoint: on the image's own grid, for any orientation and voxel size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save
from core.datasets import LoadedSubject
from core.datasets.single_case import read_images
from core.errors import CheckpointError, DeviceError
from core.evaluation.metrics import dice_per_class
from core.imaging.geometry import Geometry
from core.imaging.postprocessing import ClassRule, Postprocessing
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from tests.support.balls import SHAPE, SPACING_MM, balls
from tests.support.volume_files import write_nifti

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

AFFINE = np.diag([*SPACING_MM, 1.0])


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.nanmean(dice_per_class(truth, prediction, 3)[1:]))


def test_unseen_volume_is_segmented(ball_run: BallRun) -> None:
    image, label = balls(77)
    predictor = Predictor(ball_run.checkpoint)
    calls: list[tuple[int, int]] = []
    prediction = predictor.segment(SubjectImage(image, SPACING_MM), lambda n, of: calls.append((n, of)))
    assert prediction.shape == SHAPE and prediction.dtype == np.uint8
    assert dice(label, prediction) > 0.8
    assert calls[-1][0] == calls[-1][1] > 0


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_both_modes_segment_a_volume_of_any_size(ball_run: BallRun, mode: str) -> None:
    image, label = balls(78, shape=(23, 27, 19))
    predictor = Predictor(ball_run.checkpoint, InferenceOverrides(mode=mode, overlap=0.25, precision="fp32"))
    assert predictor.settings()["mode"] == mode
    assert dice(label, predictor.segment(SubjectImage(image, SPACING_MM))) > 0.6


def test_the_smallest_volume_is_that_of_the_voxels_of_a_sheared_image(
    ball_run: BallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tilted gantry: the product of the voxel sizes is larger than the volume of a voxel."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 5 * np.tan(np.deg2rad(30))
    predictor = Predictor(ball_run.checkpoint)
    geometry = Geometry(SHAPE, affine)
    voxels = np.zeros((len(predictor.modalities), *SHAPE), np.float32)
    image = SubjectImage.of(LoadedSubject("a", voxels, None, geometry, geometry, Path("a.nii.gz")))
    assert image.voxel_ml == pytest.approx(0.005) and np.prod(image.spacing_mm) == pytest.approx(5.7735)
    assert SubjectImage(voxels, image.spacing_mm).voxel_ml == pytest.approx(0.0057735)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 2:5, 2:5] = 1  # 27 voxels, 0.135 ml
    monkeypatch.setattr(predictor, "segment_unprocessed", lambda *_: labels)
    for minimum_ml, left in ((0.134, 27), (0.14, 0)):
        name = predictor.labels.names[1]
        predictor.postprocessing = Postprocessing({name: ClassRule(minimum_ml=minimum_ml)})
        assert int((predictor.segment(image) == 1).sum()) == left


@pytest.mark.slow
def test_mirroring_is_stored_in_the_checkpoint_and_can_be_overridden(ball_run: BallRun, tmp_path: Path) -> None:
    assert not Predictor(ball_run.checkpoint).options.mirror  # the default of configurations that lack the field
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata.config["validation"]["mirror"] = True
    save(tmp_path / "mirror.safetensors", checkpoint)
    image, label = balls(78)
    predictor = Predictor(tmp_path / "mirror.safetensors")
    assert predictor.options.mirror and predictor.settings()["mirror"] is True
    assert dice(label, predictor.segment(SubjectImage(image, SPACING_MM))) > 0.8
    assert not Predictor(tmp_path / "mirror.safetensors", InferenceOverrides(mirror=False)).options.mirror
    mirrored = Predictor(ball_run.checkpoint, InferenceOverrides(mirror=True))
    np.testing.assert_array_equal(
        mirrored.segment(SubjectImage(image[:, ::-1].copy(), SPACING_MM))[::-1],
        predictor.segment(SubjectImage(image, SPACING_MM)),
    )


def test_out_of_memory_is_a_device_error(ball_run: BallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("core.inference.predictor.predict_logits", fail)
    with pytest.raises(DeviceError, match=r"machine's memory .*end other programs"):
        Predictor(ball_run.checkpoint).segment(SubjectImage(balls(78)[0], SPACING_MM))


def test_resampled_prediction_is_on_the_images_own_grid(ball_run: BallRun, tmp_path: Path) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata = replace(checkpoint.metadata, spacing_mm=SPACING_MM)
    save(tmp_path / "spaced.safetensors", checkpoint)
    image, label = balls(79)
    fine_image, fine_label = (np.repeat(np.repeat(a, 2, axis=-1), 2, axis=-2) for a in (image, label))
    spacing = (SPACING_MM[0], SPACING_MM[1] / 2, SPACING_MM[2] / 2)
    prediction = Predictor(tmp_path / "spaced.safetensors").segment(SubjectImage(fine_image, spacing))
    assert prediction.shape == fine_label.shape
    assert dice(fine_label, prediction) > 0.75


@pytest.mark.slow
def test_segmentation_does_not_depend_on_the_stored_orientation(ball_run: BallRun, tmp_path: Path) -> None:
    image, _ = balls(80)
    ras = write_nifti(tmp_path / "ras.nii.gz", image[0], AFFINE)
    flip = np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    las = write_nifti(tmp_path / "las.nii.gz", image[0, ::-1], AFFINE @ flip)
    predictor = Predictor(ball_run.checkpoint)
    ras_subject, las_subject = (read_images([path], ("M0",)) for path in (ras, las))
    np.testing.assert_array_equal(ras_subject.image, las_subject.image)
    assert ras_subject.stored.axis_codes == ("R", "A", "S") and las_subject.stored.axis_codes == ("L", "A", "S")
    first, second = (predictor.segment(SubjectImage.of(s)) for s in (ras_subject, las_subject))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("tile", [[0, 16, 16], [16, 16], "x", [99999, 16, 16]])
def test_invalid_stored_tile_size_is_refused(ball_run: BallRun, tmp_path: Path, tile: object) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata.inference["tile"] = tile
    save(tmp_path / "odd.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match="sub-volume"):
        Predictor(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("resampled", [False, True], ids=["own voxel size", "resampled"])
def test_a_cropping_network_sees_the_content_alone_and_gives_the_whole_grid(
    ball_run: BallRun, tmp_path: Path, resampled: bool
) -> None:
    """Air around the content changes nothing, and lies in the place that it has in the image."""
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata.config["data"]["crop"] = True
    checkpoint = replace(
        checkpoint, metadata=replace(checkpoint.metadata, spacing_mm=(1.5, 1.5, 1.5) if resampled else None)
    )
    save(tmp_path / "crop.safetensors", checkpoint)
    image, label = balls(77)
    image[image == 0] = 0.5
    padded = np.pad(image, ((0, 0), (9, 3), (2, 5), (4, 1)))
    inside = (slice(9, 9 + SHAPE[0]), slice(2, 2 + SHAPE[1]), slice(4, 4 + SHAPE[2]))
    predictor = Predictor(tmp_path / "crop.safetensors", InferenceOverrides(maps=True))
    alone, whole = SubjectImage(image, SPACING_MM), SubjectImage(padded, SPACING_MM)
    found = predictor.segment(whole)
    assert found.shape == padded.shape[1:] and dice(label, found[inside]) > 0.6
    np.testing.assert_array_equal(found[inside], predictor.segment(alone))
    assert found.sum() == found[inside].sum(), "the margin is background"
    probabilities = predictor.probabilities(whole)
    np.testing.assert_array_equal(probabilities[:, *inside], predictor.probabilities(alone))
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert probabilities[0, 0, 0, 0] == 1
    detail = predictor.segment_in_detail(whole)
    assert detail.maps is not None and np.array_equal(detail.labels, found)
    assert predictor.settings()["cropped"] is True


def test_networks_of_earlier_versions_are_not_cropped(ball_run: BallRun) -> None:
    assert not Predictor(ball_run.checkpoint).crop
