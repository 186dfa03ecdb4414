"""Voxel sizes in the records of a run: in its checkpoints, its notes and its facts."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save, strip_for_sharing
from core.checkpointing.training_spacing import TrainingSpacing
from core.events import Event, Note, Ready
from core.training.experiment import train_run
from tests.support import volume_files
from tests.support.balls import SPACING_MM, tiny, write_balls

SHORT = {"epochs": 1, "samples_train": 2, "samples_val": 0, "whole_every": 0}


def scale(data: Path, subject: str, factor: float) -> None:
    """Multiply the affines of a subject."""
    for part in ("imagesTr", "labelsTr"):
        path = data / part / f"{subject}.nii.gz"
        image = volume_files.load(path)
        affine = image.affine * np.array([factor, factor, factor, 1])[:, None]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", 4)


def train(data: Path, folder: Path, **values: object) -> list[Event]:
    folder.mkdir()
    events: list[Event] = []
    train_run(tiny(path=str(data), **{**SHORT, "val_subjects": ("ball_3",), **values}), folder, events.append)
    return events


@pytest.mark.slow
def test_range_of_the_training_subjects_is_kept_and_a_held_out_subject_beyond_it_noted(
    data: Path, tmp_path: Path
) -> None:
    scale(data, "ball_1", 1.1)
    scale(data, "ball_3", 2)
    events = train(data, tmp_path / "run")
    spacing = load(tmp_path / "run" / "last.safetensors").metadata.training_spacing
    assert spacing is not None and spacing.median_mm == pytest.approx(SPACING_MM)
    assert spacing.max_mm == pytest.approx((1.1, 1.1, 1.65)), "the held-out subject does not count"
    (note,) = [e.text for e in events if isinstance(e, Note) and "15 %" in e.text]
    assert "held-out ball_3" in note and "--resample" in note
    resampled = train(data, tmp_path / "resampled", spacing_mm=(1.0, 1.0, 1.5))
    assert not [e for e in resampled if isinstance(e, Note) and "15 %" in e.text]


@pytest.mark.slow
def test_weights_of_another_voxel_size_are_named(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "first")
    source = str(tmp_path / "first" / "last.safetensors")

    def weights(folder: str) -> str:
        events = train(data, tmp_path / folder, init_from=source)
        return next(e for e in events if isinstance(e, Ready)).facts["weights"]

    assert "voxels of" not in weights("same")
    for n in range(4):
        scale(data, f"ball_{n}", 3)
    assert weights("other").endswith(f", trained at voxels of {TrainingSpacing.of([SPACING_MM]).text}")


@pytest.mark.slow
def test_held_out_subjects_that_the_initial_network_was_trained_on_are_named_and_stay_known(
    data: Path, tmp_path: Path
) -> None:
    train(data, tmp_path / "first")
    source = tmp_path / "first" / "last.safetensors"
    trained = load(source).metadata.split["train"]

    def seen(folder: str, held_out: str) -> tuple[list[str], list[str]]:
        events = train(data, tmp_path / folder, val_subjects=(held_out,), init_from=str(source))
        metadata = load(tmp_path / folder / "last.safetensors").metadata
        notes = [e.text for e in events if isinstance(e, Note) and "initial network" in e.text]
        return notes, metadata.seen_in_training(data, metadata.split["val"])

    assert seen("same", "ball_3") == ([], []), "it was held out there, too"
    (note,), found = seen("other", "ball_1")
    assert found == ["ball_1"] and "ball_1" in trained and "(ball_1): their scores will be too good" in note
    train(data, tmp_path / "third", val_subjects=("ball_2",), init_from=str(tmp_path / "other" / "last.safetensors"))
    metadata = load(tmp_path / "third" / "last.safetensors").metadata
    assert metadata.seen_in_training(data, ["ball_1", "ball_2", "ball_3"]) == ["ball_1", "ball_2", "ball_3"]


@pytest.mark.slow
def test_held_out_subjects_of_the_same_name_as_those_of_an_exported_initial_network_are_named(
    data: Path, tmp_path: Path
) -> None:
    train(data, tmp_path / "first")
    source = tmp_path / "shared.safetensors"
    save(source, strip_for_sharing(load(tmp_path / "first" / "last.safetensors")))
    for folder, held_out, expected in (("same", "ball_3", 0), ("other", "ball_1", 1)):
        events = train(data, tmp_path / folder, val_subjects=(held_out,), init_from=str(source))
        notes = [e.text for e in events if isinstance(e, Note) and "initial network" in e.text]
        assert len(notes) == expected
        metadata = load(tmp_path / folder / "last.safetensors").metadata
        assert metadata.may_be_seen_in_training(data, [held_out]) == [held_out] * expected
    assert "trained on subjects of the names ball_1, in a folder that its file does not name" in notes[0]
