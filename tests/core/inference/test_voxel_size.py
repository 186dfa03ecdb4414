"""The voxel size that a network expects: from its checkpoint, or else from its run or its data."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save, strip_for_sharing
from core.checkpointing.metadata import TRAINING_SPACING, CheckpointMetadata, read_metadata
from core.checkpointing.training_spacing import TrainingSpacing
from core.errors import CheckpointError, DeviceError
from core.evaluation.metrics import dice_per_class
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.inference.voxel_size import ExpectedVoxelSize
from tests.support.balls import SPACING_MM, balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def without_entry(metadata: CheckpointMetadata, **dataset: object) -> CheckpointMetadata:
    """Metadata as an earlier version wrote them."""
    kept = {name: value for name, value in metadata.dataset.items() if name != TRAINING_SPACING}
    return replace(metadata, dataset={**kept, **dataset})


def test_training_without_resampling_remembers_its_voxel_size(ball_run: BallRun, tmp_path: Path) -> None:
    metadata = read_metadata(ball_run.checkpoint)
    assert metadata.spacing_mm is None and metadata.training_spacing == TrainingSpacing.of([SPACING_MM])
    shared = tmp_path / "shared.safetensors"
    save(shared, strip_for_sharing(load(ball_run.checkpoint)))
    assert read_metadata(shared).training_spacing == metadata.training_spacing


def test_other_voxel_size_is_warned_of(ball_run: BallRun) -> None:
    expected = Predictor(ball_run.checkpoint).expected
    assert expected.warning(SPACING_MM) == ""
    assert "the voxels are 2 x 2 x 3 mm, those of training 1 x 1 x 1.5 mm" in expected.warning((2.0, 2.0, 3.0))
    assert expected.warning((2.0, 2.0, 3.0), resample=True) == ""


def test_network_with_resampling_takes_every_voxel_size(ball_run: BallRun) -> None:
    metadata = replace(read_metadata(ball_run.checkpoint), spacing_mm=(2.0, 2.0, 2.0))
    expected = ExpectedVoxelSize.of(metadata, ball_run.checkpoint)
    assert expected.warning((9.0, 9.0, 9.0)) == ""
    assert expected.target_mm(resample=True) == expected.target_mm(resample=False) == (2.0, 2.0, 2.0)


def test_checkpoint_of_an_earlier_version_is_judged_by_its_run_or_its_data(ball_run: BallRun, tmp_path: Path) -> None:
    old = without_entry(read_metadata(ball_run.checkpoint))
    alone = tmp_path / "model.safetensors"
    own = TrainingSpacing.of([SPACING_MM])
    assert ExpectedVoxelSize.of(old, alone).training == own, "by the headers of its training data"
    elsewhere = without_entry(old, path=str(tmp_path / "gone"))
    assert ExpectedVoxelSize.of(elsewhere, ball_run.checkpoint).training == own, "by the record of its run"
    assert ExpectedVoxelSize.of(elsewhere, alone).training is None
    demo = ExpectedVoxelSize.of(without_entry(elsewhere, synthetic=True), alone)
    assert demo.training == TrainingSpacing.of([(1.0, 1.0, 1.0)])


def test_unknown_voxel_size_of_training_is_said_and_cannot_be_resampled_to(ball_run: BallRun, tmp_path: Path) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata = without_entry(checkpoint.metadata, path=str(tmp_path / "gone"))
    path = tmp_path / "old.safetensors"
    save(path, checkpoint)
    assert "does not state the voxel size of its training" in Predictor(path).expected.warning(SPACING_MM)
    with pytest.raises(CheckpointError, match="resample: expected a model that states the voxel size"):
        Predictor(path, InferenceOverrides(resample=True))


def test_damaged_entry_is_a_damaged_checkpoint(ball_run: BallRun, tmp_path: Path) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata.dataset[TRAINING_SPACING] = {"median": [0, 1, 1]}
    save(tmp_path / "odd.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match="metadata are damaged"):
        read_metadata(tmp_path / "odd.safetensors")


def test_resampling_brings_an_image_to_the_voxel_size_of_training_and_back(ball_run: BallRun) -> None:
    image, label = balls(79)
    fine_image, fine_label = (a.repeat(2, -1).repeat(2, -2).repeat(2, -3) for a in (image, label))
    fine_mm = (SPACING_MM[0] / 2, SPACING_MM[1] / 2, SPACING_MM[2] / 2)

    def dice(resample: bool = False) -> float:
        predictor = Predictor(ball_run.checkpoint, InferenceOverrides(resample=resample))
        prediction = predictor.segment(SubjectImage(fine_image, fine_mm))
        assert prediction.shape == fine_label.shape
        return float(np.nanmean(dice_per_class(fine_label, prediction, 3)[1:]))

    assert dice(resample=True) > 0.75 > dice() + 0.05
    settings = Predictor(ball_run.checkpoint, InferenceOverrides(resample=True)).settings()
    assert settings["resampled_mm"] == list(SPACING_MM)


def test_resampling_to_the_own_voxel_size_changes_nothing(ball_run: BallRun) -> None:
    image, _ = balls(80)
    plain = Predictor(ball_run.checkpoint).segment(SubjectImage(image, SPACING_MM))
    resampled = Predictor(ball_run.checkpoint, InferenceOverrides(resample=True)).segment(
        SubjectImage(image, SPACING_MM)
    )
    np.testing.assert_array_equal(plain, resampled)


def test_image_that_resampling_would_make_too_large_is_refused(ball_run: BallRun) -> None:
    predictor = Predictor(ball_run.checkpoint, InferenceOverrides(resample=True))
    with pytest.raises(DeviceError, match=r"at voxels of 1 x 1 x 1\.5 mm the image has 20000x24000x12000 voxels"):
        predictor.segment(SubjectImage(balls(81)[0], (1000.0, 1000.0, 1000.0)))


def test_resampled_image_of_permuted_thick_slices_is_on_its_own_grid(ball_run: BallRun) -> None:
    predictor = Predictor(ball_run.checkpoint, InferenceOverrides(resample=True))
    assert predictor.segment(SubjectImage(balls(81, shape=(9, 24, 24))[0], (3.0, 1.0, 1.0))).shape == (9, 24, 24)


def test_copied_run_folder_keeps_its_record(ball_run: BallRun, tmp_path: Path) -> None:
    shutil.copytree(ball_run.checkpoint.parent, tmp_path / "copy")
    old = without_entry(read_metadata(ball_run.checkpoint), path="")
    found = ExpectedVoxelSize.of(old, tmp_path / "copy" / "last.safetensors").training
    assert found == TrainingSpacing.of([SPACING_MM])
