"""The ready-made model as it is committed: small, whole, what its card says, and far better than chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.checkpointing.checkpoint import load
from core.datasets import load_subject, open_dataset
from core.datasets.synthetic.demo import ensure_subject
from core.evaluation.metrics import dice_per_class
from core.inference.predictor import Predictor
from core.paths import DEMO_MODEL, demo_model_path, project_root
from core.runs import find_checkpoint, list_runs

MODEL = demo_model_path()
CHANCE = 0.34  # Dice of naming the commonest tissue everywhere in the brain, for that tissue; 0 for the others


def test_it_is_small_and_tells_nothing_of_the_machine_it_was_made_on() -> None:
    assert MODEL.stat().st_size <= 5_000_000
    about = load(MODEL, training_state=True)
    assert not about.optimizer and not about.average
    assert "path" not in about.metadata.dataset and about.metadata.dataset["synthetic"]
    assert about.metadata.train_config.data.path == "demo"
    files = {path.name for path in MODEL.parent.iterdir()}
    assert files == {"model.safetensors", "README.md", "evaluation.json"}
    for name in ("README.md", "evaluation.json"):
        assert "/tmp" not in (MODEL.parent / name).read_text() and "/home" not in (MODEL.parent / name).read_text()


def test_it_is_found_from_any_root_and_is_no_run(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, DEMO_MODEL) == MODEL
    assert DEMO_MODEL not in {run.id for run in list_runs(project_root() / "checkpoints")}


def test_its_card_says_what_was_measured_on_a_subject_it_never_saw() -> None:
    card = (MODEL.parent / "README.md").read_text("utf-8")
    found = json.loads((MODEL.parent / "evaluation.json").read_text("utf-8"))
    about = load(MODEL).metadata
    ids = [subject["id"] for subject in found["subjects"]]
    assert found["split"] == "test" and ids == about.split["test"]
    assert not set(ids) & {*about.split["train"], *about.split["val"]}
    mean = found["mean"]
    for name in about.label_space.names[1:]:
        row = f"| {name} | {mean['dice'][name]:.3f} | {mean['hd95_mm'][name]:.1f} mm | {mean['asd_mm'][name]:.2f} mm |"
        assert f"{row} {mean['n'][name]} |" in card
        assert mean["dice"][name] > 0.7
    assert f"{sum(p.numel() for p in load(MODEL).model.values()):,} parameters" in card
    assert "not a medical device" in card and "MNI152" in card and "NOTICE" in card


@pytest.mark.slow
def test_it_segments_a_subject_made_now(tmp_path: Path) -> None:
    subject = "subject-1"
    dataset = open_dataset(ensure_subject(tmp_path / "demo", subject))
    loaded = load_subject(dataset, subject)
    assert loaded.label is not None
    brain = np.argwhere(loaded.label > 0)
    first = (brain.min(0) + brain.max(0)) // 2 - 32
    crop = tuple(slice(int(a), int(a) + 64) for a in first)
    found = Predictor(MODEL).segment(loaded.image[(slice(None), *crop)], loaded.geometry.spacing_mm)
    dice = dice_per_class(loaded.label[crop], found, 4)[1:]
    assert dice.min() > CHANCE + 0.2, dice
