"""The shipped example: a demo subject and its segmentation by the ready-made model, valid without computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.checkpointing.metadata import read_metadata
from core.datasets import load_subject, open_dataset
from core.datasets.synthetic.demo import ensure_subject
from core.errors import DatasetError
from core.evaluation.metrics import dice_per_class
from core.files import file_stamp
from core.imaging.volume import read_label
from core.paths import demo_example_folder, demo_folder, demo_model_path
from core.runs.example import RECORD, SUBJECT, install_example
from core.runs.predictions import read_predictions
from tests.support.quick_demo import replace_generator

MODEL = demo_model_path()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    return demo_folder()


@pytest.mark.slow
def test_segmentation_and_scores_of_the_subject_are_there_at_once(tmp_path: Path, data: Path) -> None:
    install_example(tmp_path / "runs")
    prediction = read_predictions(tmp_path / "runs", MODEL, data)[SUBJECT]
    assert not prediction.stale and prediction.score is not None and not prediction.warnings
    dataset, metadata = open_dataset(data), read_metadata(MODEL)
    assert dataset.ids == (SUBJECT,) and SUBJECT in metadata.split["test"]
    loaded = load_subject(dataset, SUBJECT)
    assert loaded.label is not None and loaded.geometry.oriented
    segmentation = metadata.label_space.to_index(read_label(prediction.file).data[0])
    dice = dice_per_class(loaded.label, segmentation, 4)[1:]
    np.testing.assert_allclose(dice, list(prediction.score.dice.values()), atol=1e-6)
    evaluation = json.loads((MODEL.parent / "evaluation.json").read_text("utf-8"))
    assert prediction.score.dice == evaluation["subjects"][0]["dice"], "the segmentation is that of this model"
    stamps = {path: file_stamp(path) for path in tmp_path.rglob("*")}
    install_example(tmp_path / "runs")
    assert {path: file_stamp(path) for path in tmp_path.rglob("*")} == stamps, "once"


def test_example_is_small_and_names_no_place() -> None:
    files = list(demo_example_folder().iterdir())
    assert sum(path.stat().st_size for path in files) <= 4_000_000
    record = json.loads((demo_example_folder() / RECORD).read_text("utf-8"))
    assert not {"inputs", "sources", "layout"} & set(record) and "/" not in json.dumps(record)
    assert set(record["score"]["surface_dice"]) == set(record["score"]["dice"]), "Review has a column for it"


@pytest.mark.slow
def test_subject_of_other_files_gets_no_shipped_segmentation(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        replace_generator(patch)
        patch.setattr("core.datasets.synthetic.demo_writer.SHIPPED", (1, 1))
        ensure_subject(data, SUBJECT)
    install_example(tmp_path / "runs")
    assert read_predictions(tmp_path / "runs", MODEL, data) == {}


def test_demo_data_of_another_seed_is_left_alone(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_generator(monkeypatch)
    ensure_subject(data, "subject-2", 5)
    with pytest.raises(DatasetError, match="of seed 5"):
        install_example(tmp_path / "runs")
    assert open_dataset(data).ids == ("subject-2",) and not (tmp_path / "runs").exists()
