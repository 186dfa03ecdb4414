"""Label maps of other raters as second segmentation on Review."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.layouts.base import Dataset
from core.datasets.saved_descriptions import save_description
from core.datasets.segmentation_files import other_raters
from tests.support.volume_files import write_nifti
from ui.review.second_files import of_rater
from ui.review.second_model import second_file
from ui.viewer import volumes
from ui.viewer.scenes import subject_scene
from ui.viewer.second_prediction import LAYER, with_second

SHAPE = (8, 7, 6)
LAYOUT = {
    "images": "{case}/t1.nii.gz",
    "labels": "{case}/seg_{rater}.nii.gz",
    "rater": "ann",
    "classes": {"background": 0, "lesion": [1, 3]},
}


@pytest.fixture
def dataset(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Ann and Ben have drawn case a, Ann alone case b; Ben wrote a value that is merged into the class."""
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))
    random = np.random.default_rng(0)
    for case, raters in (("a", {"ann": 1, "ben": 3}), ("b", {"ann": 1})):
        write_nifti(tmp_path / "data" / case / "t1.nii.gz", random.random(SHAPE).astype(np.float32), np.eye(4))
        for place, (rater, value) in enumerate(raters.items()):
            label = np.zeros(SHAPE, np.uint8)
            label[1 + place : 4 + place, 2:5, 2:4] = value
            write_nifti(tmp_path / "data" / case / f"seg_{rater}.nii.gz", label, np.eye(4))
    save_description(tmp_path / "data", LAYOUT)
    return open_dataset(tmp_path / "data")


def test_the_raters_that_are_not_the_reference_can_be_compared(dataset: Dataset) -> None:
    assert other_raters(dataset) == ["ben"]
    second = of_rater(dataset, "a", "ben")
    assert second.files == {"a": dataset.path / "a" / "seg_ben.nii.gz"} and second.source == "rater:ben"
    assert second_file(second, dataset, "b") is None, "Ben has not drawn this case"


def test_the_page_and_the_viewer_say_whose_label_maps_are_shown(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("streamlit.caption", said.append)
    second = of_rater(dataset, "a", "ben")
    of_rater(dataset, "b", "ben")
    compared = "Compared with the label map by ben; the reference is by ann."
    assert said == [compared, "ben has drawn no label map of this case."]
    file = second_file(second, dataset, "a")
    assert file is not None
    scene, _ = with_second(subject_scene(dataset.path, "a"), dataset, "a", dataset.labels, file)
    assert scene.titles == {LAYER: "rater ben"} and LAYER in scene.layers


def test_the_label_map_of_another_rater_is_shown_with_the_classes_of_the_data_set(dataset: Dataset) -> None:
    second = second_file(of_rater(dataset, "a", "ben"), dataset, "a")
    assert second is not None
    scene, warnings = with_second(subject_scene(dataset.path, "a"), dataset, "a", dataset.labels, second)
    path = volumes._published[scene.layers[LAYER].removeprefix(volumes.PREFIX)]
    shown = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8).reshape(SHAPE[::-1]).transpose(2, 1, 0)
    reference = load_subject(dataset, "a").label
    assert reference is not None and not warnings
    np.testing.assert_array_equal(shown[2:5, 2:5, 2:4], 1)
    assert shown.sum() == reference.sum() and not np.array_equal(shown, reference)
