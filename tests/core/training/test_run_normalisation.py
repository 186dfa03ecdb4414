"""The normalisation of a run: chosen by name or intensities, measured in training subjects, kept in checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import load, save
from core.datasets import load_subject, open_dataset
from core.errors import CheckpointError, DatasetError
from core.events import Ended, Event, Ready
from core.imaging.foreground_statistics import ForegroundIntensities
from core.imaging.normalise import Normaliser
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.training.experiment import train_run
from tests.support.balls import balls, tiny, write_balls
from tests.support.volume_files import make_iseg

SHORT = {"epochs": 1, "samples_train": 2, "samples_val": 0, "whole_every": 0}


def write_ct(folder: Path, modality: str = "image", subjects: int = 6, offset: int = 0) -> Path:
    """Balls in Hounsfield units: air, water around the balls, the subjects a little different."""
    write_balls(folder, subjects, flipped=False)
    for number in range(subjects):
        file = folder / "imagesTr" / f"ball_{number}.nii.gz"
        stored = nib.load(file)
        hounsfield = (stored.get_fdata() - 100 + 3 * number).round()
        hounsfield[:, :2] = -1024
        nib.save(nib.Nifti1Image((hounsfield + offset).astype(np.int16), stored.affine), file)
    description = folder / "dataset.json"
    content = json.loads(description.read_text()) | {"modality": {"0": modality}}
    description.write_text(json.dumps(content))
    return folder


def trained(data: Path, run: Path, **values: object) -> tuple[Normaliser, list[Event]]:
    run.mkdir(exist_ok=True)
    events: list[Event] = []
    train_run(tiny(path=str(data), **{**SHORT, **values}), run, events.append)
    return load(run / "last.safetensors").metadata.normaliser, events


def measured(data: Path, ids: list[str]) -> object:
    dataset, collected = open_dataset(data), ForegroundIntensities(1)
    for id in ids:
        loaded = load_subject(dataset, id)
        assert loaded.label is not None
        collected.add(loaded.image, loaded.label)
    return collected.statistics()


@pytest.mark.slow
def test_hounsfield_units_are_normalised_by_statistics_of_the_training_subjects_of_the_fold(tmp_path: Path) -> None:
    data, found = write_ct(tmp_path / "ct"), []
    for fold in (0, 1):
        normaliser, events = trained(data, tmp_path / f"run{fold}", fold=fold)
        metadata = load(tmp_path / f"run{fold}" / "last.safetensors").metadata
        assert normaliser.methods == ("ct",) and metadata.train_config.data.normalisation == "ct"
        assert normaliser.statistics == measured(data, metadata.split["train"])
        ready = next(e for e in events if isinstance(e, Ready))
        assert ready.facts["intensities"].startswith("image: -")
        found.append(normaliser.statistics)
    assert found[0] != found[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mri", "named ct", "chosen z_score", "not in HU"])
def test_auto_is_ct_by_name_and_z_score_otherwise(tmp_path: Path, case: str) -> None:
    if case == "mri":
        normaliser, events = trained(write_balls(tmp_path / "mri"), tmp_path / "run")
        assert "intensities" not in next(e for e in events if isinstance(e, Ready)).facts
    elif case == "named ct":
        normaliser, _ = trained(write_ct(tmp_path / "ct", "CT", offset=1024), tmp_path / "run")
    elif case == "not in HU":
        normaliser, _ = trained(write_ct(tmp_path / "ct", offset=1024), tmp_path / "run")
    else:
        normaliser, _ = trained(write_ct(tmp_path / "ct"), tmp_path / "run", normalisation="z_score")
    assert normaliser.methods == ("ct" if case == "named ct" else "z_score",)
    config = load(tmp_path / "run" / "last.safetensors").metadata.train_config
    assert config.data.normalisation == normaliser.methods[0]


@pytest.mark.slow
def test_each_modality_is_decided_on_its_own(tmp_path: Path) -> None:
    data = write_balls(tmp_path / "two", channels=2)
    description = data / "dataset.json"
    content = json.loads(description.read_text()) | {"modality": {"0": "PET", "1": "CT"}}
    description.write_text(json.dumps(content))
    normaliser, _ = trained(data, tmp_path / "run")
    assert normaliser.methods == ("z_score", "ct") and normaliser.statistics[0] is None
    assert load(tmp_path / "run" / "last.safetensors").metadata.train_config.data.normalisation == "auto"


@pytest.mark.slow
def test_prediction_uses_the_statistics_of_training_and_a_checkpoint_without_them_is_refused(tmp_path: Path) -> None:
    data = write_ct(tmp_path / "ct")
    trained(data, tmp_path / "run")
    file = tmp_path / "run" / "last.safetensors"
    checkpoint = load(file)
    (statistics,) = checkpoint.metadata.normaliser.statistics
    assert statistics is not None
    shifted = replace(statistics, mean=1e4)
    image = load_subject(open_dataset(data), "ball_0").image
    before = Predictor(file).segment(SubjectImage(image, (1, 1, 1.5)))
    other = replace(checkpoint.metadata, normalisation=Normaliser(("ct",), (shifted,)).to_json())
    save(tmp_path / "other.safetensors", replace(checkpoint, metadata=other))
    assert not np.array_equal(
        Predictor(tmp_path / "other.safetensors").segment(SubjectImage(image, (1, 1, 1.5))), before
    )
    save(tmp_path / "without.safetensors", replace(checkpoint, metadata=replace(checkpoint.metadata, normalisation={})))
    with pytest.raises(CheckpointError, match=r"without.safetensors: .*expected the percentiles"):
        load(tmp_path / "without.safetensors")


@pytest.mark.slow
def test_resumed_run_keeps_its_normalisation_whatever_the_data_is_now(tmp_path: Path) -> None:
    data, run = write_ct(tmp_path / "ct"), tmp_path / "run"
    normaliser, _ = trained(data, run)
    for old in (normaliser, Normaliser.of_images("z_score", 1, version=1)):
        checkpoint = load(run / "last.safetensors")
        stored = {} if old.version == 1 else old.to_json()
        trained_with = checkpoint.metadata.train_config.with_values({"normalisation": old.methods[0]})
        changed = replace(checkpoint.metadata, normalisation=stored, config=trained_with.to_json())
        save(run / "last.safetensors", replace(checkpoint, metadata=changed))
        config = tiny(path=str(data), **{**SHORT, "epochs": 1 + checkpoint.metadata.progress["epoch"]})
        train_run(config, run, lambda event: None, resume=True)
        assert load(run / "last.safetensors").metadata.normaliser == old


def test_stop_request_while_intensities_are_measured_ends_the_run(tmp_path: Path) -> None:
    data, run = write_ct(tmp_path / "ct"), tmp_path / "run"
    run.mkdir()
    events: list[Event] = []
    train_run(tiny(path=str(data)), run, events.append, should_stop=lambda: True)
    ended = events[-1]
    assert isinstance(ended, Ended) and ended.reason == "stopped"
    assert not list(run.glob("*.safetensors"))


@pytest.mark.slow
def test_outlier_in_a_training_image_leaves_training_as_it_is(tmp_path: Path) -> None:
    """In version 0.1 a spike of 32767 took nearly all contrast from its subject."""
    weights = []
    for spike in (False, True):
        data = write_balls(tmp_path / f"spike-{spike}", flipped=False)
        for number in range(6):
            image, _ = balls(number)
            image[0][0, 0, 0] = 32767 if spike else image.max()
            file = data / "imagesTr" / f"ball_{number}.nii.gz"
            nib.save(nib.Nifti1Image(image[0], nib.load(file).affine), file)
        run = tmp_path / f"run-{spike}"
        run.mkdir()
        train_run(tiny(path=str(data), **SHORT), run, lambda event: None)
        weights.append(load(run / "last.safetensors").weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_a_validation_subject_without_an_image_in_hounsfield_units_is_refused(tmp_path: Path) -> None:
    data = make_iseg(tmp_path / "data", 4)
    (data / "subject-2-T2.nii.gz").unlink()
    chosen = {"normalisation": "ct", "missing_modalities": "zero", "val_subjects": ("subject-2",)}
    with pytest.raises(DatasetError, match="subject-2: expected an image of T2 for the normalisation ct"):
        trained(data, tmp_path / "run", **chosen)
