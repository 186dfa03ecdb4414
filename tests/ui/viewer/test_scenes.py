"""Scenes: volumes, classes and grids of subjects and predictions."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.errors import VolumeError
from core.labels import LabelSpace
from tests.support.balls import CLASSES, SHAPE, write_balls
from ui.viewer import volumes
from ui.viewer.scenes import subject_scene


@pytest.fixture
def data(tmp_path: Path, checkpoints: Path) -> Path:
    return write_balls(tmp_path / "balls", subjects=2, channels=2)


def content(url: str, dtype: str = "u1") -> np.ndarray:
    path = volumes._published[url.removeprefix(volumes.PREFIX)]
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype)


def volume(url: str) -> np.ndarray:
    return content(url).reshape(SHAPE[::-1]).transpose(2, 1, 0)


def test_image_and_truth_are_in_canonical_order(data: Path) -> None:
    dataset = open_dataset(data)
    for id in dataset.ids:  # the second is stored with flipped axes
        scene = subject_scene(data, id)
        loaded = load_subject(dataset, id)
        assert loaded.label is not None
        assert scene.grid.shape == SHAPE and [c.name for c in scene.channels] == list(dataset.modalities)
        assert [c["name"] for c in scene.classes] == list(CLASSES[1:])
        assert np.array_equal(volume(scene.layers["truth"]), loaded.label)
        stored = content(scene.image, "<u2").reshape(2, *SHAPE[::-1]).transpose(0, 3, 2, 1)
        for n, c in enumerate(scene.channels):
            back = c.low + stored[n] / 65535 * (c.high - c.low)
            np.testing.assert_allclose(back, loaded.image[n], atol=(c.high - c.low) / 65535)


def test_prediction_is_on_the_grid_of_its_image(data: Path, tmp_path: Path) -> None:
    from core.imaging.volume import write_label

    dataset = open_dataset(data)
    for id in dataset.ids:
        loaded = load_subject(dataset, id)
        assert loaded.label is not None
        file = tmp_path / f"{id}.nii.gz"
        write_label(file, loaded.label, loaded.stored, loaded.first_image)
        scene = subject_scene(data, id, dataset.labels, file)
        assert np.array_equal(volume(scene.layers["prediction"]), loaded.label)


def test_truth_is_reduced_to_the_classes_of_the_network(data: Path) -> None:
    one = open_dataset(data).labels.subset(["dark"])
    scene = subject_scene(data, "ball_0", one)
    truth = volume(scene.layers["truth"])
    full = volume(subject_scene(data, "ball_0").layers["truth"])
    assert [c["name"] for c in scene.classes] == ["dark"]
    assert np.array_equal(truth, full == 2)


def test_unchanged_files_are_not_read_again_and_changed_files_have_a_new_url(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = subject_scene(data, "ball_0")
    monkeypatch.setattr("ui.viewer.scenes.load_subject", lambda *_: pytest.fail("read again"))
    assert subject_scene(data, "ball_0") == first
    monkeypatch.undo()
    file = data / "imagesTr" / "ball_0.nii.gz"
    changed = nib.load(file)
    nib.save(nib.Nifti1Image(changed.get_fdata().astype(np.float32) + 1, changed.affine), file)
    assert subject_scene(data, "ball_0").image != first.image


def test_prediction_of_another_size_is_refused(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), file)
    with pytest.raises(VolumeError, match="found 4 × 4 × 4"):
        subject_scene(data, "ball_0", LabelSpace.from_raw({0: "background", 1: "bright"}), file)
