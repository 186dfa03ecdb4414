"""The committed demo model: size, privacy, agreement with its model card, accuracy above chance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.checkpointing.checkpoint import load
from core.datasets import load_subject, open_dataset
from core.datasets.synthetic.demo import ensure_subject
from core.evaluation.metrics import dice_per_class
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.paths import DEMO_MODEL, demo_model_path
from core.runs import find_checkpoint, list_runs

MODEL = demo_model_path()
CHANCE = 0.34  # Dice of labelling the whole brain as the most frequent tissue, for that tissue; 0 for the others


def test_model_is_small_and_contains_no_local_paths() -> None:
    assert MODEL.stat().st_size <= 5_000_000
    checkpoint = load(MODEL, training_state=True)
    assert not checkpoint.optimizer and not checkpoint.average
    assert "path" not in checkpoint.metadata.dataset and checkpoint.metadata.dataset["synthetic"]
    assert checkpoint.metadata.train_config.data.path == "demo"
    files = {path.name for path in MODEL.parent.iterdir()}
    assert files == {"model.safetensors", "README.md", "evaluation.json", "example"}
    for name in ("README.md", "evaluation.json"):
        assert "/tmp" not in (MODEL.parent / name).read_text() and "/home" not in (MODEL.parent / name).read_text()


def test_model_is_found_from_any_root_and_is_not_listed_as_a_run(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, DEMO_MODEL) == MODEL
    shutil.copytree(MODEL.parent, tmp_path / DEMO_MODEL)
    assert list_runs(tmp_path) == []


def test_model_card_states_the_evaluation_on_unseen_subjects() -> None:
    card = (MODEL.parent / "README.md").read_text("utf-8")
    evaluation = json.loads((MODEL.parent / "evaluation.json").read_text("utf-8"))
    metadata = load(MODEL).metadata
    ids = [subject["id"] for subject in evaluation["subjects"]]
    assert evaluation["split"] == "test" and ids == metadata.split["test"]
    assert not set(ids) & {*metadata.split["train"], *metadata.split["val"]}
    mean = evaluation["mean"]
    for name in metadata.label_space.names[1:]:
        row = f"| {name} | {mean['dice'][name]:.3f} | {mean['hd95_mm'][name]:.1f} mm | {mean['asd_mm'][name]:.2f} mm |"
        assert f"{row} {mean['n'][name]} |" in card
        assert mean["dice"][name] > 0.7
    assert f"{sum(p.numel() for p in load(MODEL).model.values()):,} parameters" in card
    assert "not a medical device" in card and "MNI152" in card and "NOTICE" in card


@pytest.mark.long
@pytest.mark.slow
def test_model_segments_a_new_subject(tmp_path: Path) -> None:
    subject = "subject-1"
    dataset = open_dataset(ensure_subject(tmp_path / "demo", subject))
    loaded = load_subject(dataset, subject)
    assert loaded.label is not None
    brain = np.argwhere(loaded.label > 0)
    start = (brain.min(0) + brain.max(0)) // 2 - 32
    crop = tuple(slice(int(a), int(a) + 64) for a in start)
    prediction = Predictor(MODEL).segment(SubjectImage(loaded.image[(slice(None), *crop)], loaded.geometry.spacing_mm))
    dice = dice_per_class(loaded.label[crop], prediction, 4)[1:]
    assert dice.min() > CHANCE + 0.2, dice
