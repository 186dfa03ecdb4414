"""Runs on a data set with regions: sigmoid outputs, scores of regions, resuming, prediction, ensembles; or classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import load, save
from core.checkpointing.ensemble_metadata import combine, read_members
from core.config import TrainConfig
from core.datasets import load_subject, open_dataset
from core.errors import CheckpointError, ConfigError
from core.evaluation.evaluate import evaluate
from core.events import Event, Metrics, Ready
from core.inference.ensemble_predictor import open_predictor
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.training.experiment import train_run
from tests.support.balls import tiny, write_balls
from tests.support.nested_tumours import CLASSES, write_tumours

SHORT = {"epochs": 1, "samples_train": 4, "samples_val": 2, "inference_mode": "tiles", "loss": "dice_ce"}
UNIONS = ("whole", "core")


def train(data: Path, run: Path, resume: bool = False, **values: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The last value of each metric, and the facts of the run."""
    run.mkdir(exist_ok=True)
    events: list[Event] = []
    train_run(tiny(path=str(data), **{**SHORT, **values}), run, events.append, resume=resume)
    metrics = {name: v for e in events if isinstance(e, Metrics) for name, v in e.values.items()}
    return metrics, next(e for e in events if isinstance(e, Ready)).facts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, float], dict[str, str]]:
    """Data, run folder, metrics and facts of a run whose subjects, the held-out one too, are one and the same."""
    root = tmp_path_factory.mktemp("regions")
    data = write_tumours(root / "data")
    for first in (data / "labelsTr" / "case_0.nii.gz", data / "imagesTr" / "case_0_0000.nii.gz"):
        for other in "12":
            first.with_name(first.name.replace("case_0", f"case_{other}")).write_bytes(first.read_bytes())
    values: dict[str, Any] = {
        "epochs": 12,
        "samples_train": 24,
        "learning_rate": 0.01,
        "optimizer": "adam",
        "flip": 0.0,
        "force": True,
    }
    return data, root / "run", *train(data, root / "run", **values)


@pytest.mark.long
def test_subject_is_fitted_and_its_label_map_has_every_class(
    trained: tuple[Path, Path, dict[str, float], dict[str, str]],
) -> None:
    data, run, metrics, facts = trained
    assert metrics["whole/dice_mean"] > 0.8
    by_region = [metrics[f"whole/dice/{name}"] for name in (*UNIONS, "enhancing")]
    assert metrics["whole/dice_mean"] == pytest.approx(np.mean(by_region)), "of the regions, not of the classes"
    assert {f"val/dice/{name}" for name in (*CLASSES[1:], *UNIONS)} <= set(metrics)
    assert facts["regions"].startswith("whole, core, enhancing: the network learns them")
    predictor = Predictor(run / "best.safetensors")
    assert predictor.metadata.train_config.data.targets == "regions" and predictor.outputs.names == (
        *UNIONS,
        "enhancing",
    )
    subject = load_subject(open_dataset(data), "case_0")
    image = SubjectImage.of(subject)
    probabilities, labels = predictor.probabilities(image), predictor.segment(image)
    assert probabilities.shape[0] == 3 and probabilities.sum(axis=0).max() > 2, "regions overlap"
    expected = np.zeros(labels.shape, np.uint8)
    for probability, value in zip(probabilities, (1, 2, 3), strict=True):  # nnU-Net's regions_class_order
        expected[probability > 0.5] = value
    assert np.array_equal(labels, expected) and set(np.unique(labels)) == {0, 1, 2, 3}


@pytest.mark.long
def test_evaluation_scores_regions_as_training_does(
    trained: tuple[Path, Path, dict[str, float], dict[str, str]],
) -> None:
    data, run, _, _ = trained
    evaluation = evaluate(Predictor(run / "best.safetensors"), open_dataset(data), "val")
    assert evaluation.classes == (*CLASSES[1:], *UNIONS)
    mean = evaluation.mean
    best = load(run / "best.safetensors").metadata.progress
    assert mean.mean_dice == pytest.approx(np.mean([mean.dice[name] for name in (*UNIONS, "enhancing")]))
    assert best is not None and set(mean.hd95_mm) == set(evaluation.classes)
    assert mean.dice["whole"] > mean.dice["whole only"], "errors between its classes do not count for a region"


@pytest.mark.slow
def test_resumed_run_is_the_run_without_a_break(tmp_path: Path) -> None:
    data = write_tumours(tmp_path / "data")
    train(data, tmp_path / "whole", epochs=2, targets="regions", lr_schedule="constant")
    train(data, tmp_path / "broken", epochs=1, targets="regions", lr_schedule="constant")
    train(data, tmp_path / "broken", resume=True, epochs=2, targets="regions", lr_schedule="constant")
    straight, resumed = (load(tmp_path / name / "last.safetensors") for name in ("whole", "broken"))
    assert straight.metadata.regions == resumed.metadata.regions and resumed.metadata.trained_regions is not None
    for name, tensor in straight.model.items():
        assert torch.equal(tensor, resumed.model[name]), name


@pytest.mark.slow
def test_network_of_classes_scores_the_regions_too(tmp_path: Path) -> None:
    data = write_tumours(tmp_path / "data")
    metrics, facts = train(data, tmp_path / "run", targets="labels")
    assert facts["regions"] == "whole, core: scored, the network learns the classes"
    classes = [metrics[f"whole/dice/{name}"] for name in CLASSES[1:]]
    assert metrics["whole/dice_mean"] == pytest.approx(np.nanmean(classes)) and "whole/dice/core" in metrics
    metadata = load(tmp_path / "run" / "last.safetensors").metadata
    assert metadata.output_names == CLASSES and metadata.trained_regions is None
    evaluation = evaluate(Predictor(tmp_path / "run" / "best.safetensors"), open_dataset(data), "val")
    assert evaluation.mean.dice["whole"] == pytest.approx(metrics["whole/dice/whole"], abs=0.005)


@pytest.mark.slow
def test_checkpoint_of_before_the_option_is_one_of_classes(tmp_path: Path) -> None:
    """It opens, and its run is resumed as it began."""
    data = write_tumours(tmp_path / "data")
    train(data, tmp_path / "run", targets="labels")
    old = load(tmp_path / "run" / "last.safetensors", training_state=True)
    del old.metadata.config["data"]["targets"], old.metadata.dataset["regions"]
    save(tmp_path / "run" / "last.safetensors", old)
    assert Predictor(tmp_path / "run" / "last.safetensors").outputs.regions is None
    _, facts = train(data, tmp_path / "run", resume=True, epochs=2, targets="auto")
    assert facts["regions"].endswith("the network learns the classes")
    assert TrainConfig.from_json({"version": 1, "data": {}}).data.targets == "labels"


@pytest.mark.slow
def test_ensemble_averages_probabilities_of_regions(tmp_path: Path) -> None:
    data = write_tumours(tmp_path / "data")
    paths = []
    for seed in (0, 1):
        train(data, tmp_path / f"run_{seed}", seed=seed)
        paths.append(tmp_path / f"run_{seed}" / "last.safetensors")
    image = SubjectImage.of(load_subject(open_dataset(data), "case_0"))
    both = open_predictor(paths)
    mean = np.mean([Predictor(path).probabilities(image) for path in paths], axis=0)
    assert np.allclose(both.probabilities(image), mean, atol=1e-6)
    segmentation = both.segment_in_detail(image)
    labels, disagreement = segmentation.labels, segmentation.disagreement
    assert np.mean(labels == both.outputs.label_map_of(mean)) > 0.999
    assert disagreement is not None and disagreement.shape == labels.shape
    train(data, tmp_path / "classes", targets="labels")
    members = [read_members(p)[0] for p in (paths[0], tmp_path / "classes" / "last.safetensors")]
    with pytest.raises(CheckpointError, match="expected the outputs of run_0"):
        combine(members)


def test_background_beside_the_brain_is_in_no_region(tmp_path: Path) -> None:
    data = write_tumours(tmp_path / "data")
    train(data, tmp_path / "run", whole_every=0, samples_val=0)
    predictor = Predictor(tmp_path / "run" / "last.safetensors")
    image = np.zeros((1, 40, 40, 40), np.float32)
    image[:, :18, :18, :18] = load_subject(open_dataset(data), "case_0").image
    probabilities = predictor.probabilities(SubjectImage(image, (1.0, 1.0, 1.0)))
    assert probabilities[:, 30:].max() < 1e-6


def test_regions_that_cannot_be_learned_are_refused_before_training(tmp_path: Path) -> None:
    data = write_tumours(tmp_path / "data")
    with pytest.raises(ConfigError, match="expected labels for weighted_ce"):
        train(data, tmp_path / "run", targets="regions", loss="weighted_ce")
    with pytest.raises(ConfigError, match="data set without regions"):
        train(write_balls(tmp_path / "balls"), tmp_path / "run", targets="regions")


def test_region_without_a_mirror_image_is_refused_before_the_first_step(tmp_path: Path) -> None:
    values = {"mirror": True, "lateral": "swap", "lateral_pairs": CLASSES[1:3]}
    events: list[Event] = []
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="expected the mirror image of each region to be a region, got none for core"):
        train_run(
            tiny(path=str(write_tumours(tmp_path / "data")), **{**SHORT, **values}), tmp_path / "run", events.append
        )
    assert not any(isinstance(event, Metrics) for event in events)
