"""The scene of files: what the browser gets of each segmentation."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from core.datasets.file_case import REFERENCE, SEGMENTATION, file_case
from core.datasets.segmentation_values import read_segmentation_values
from core.errors import UserError
from tests.support.file_cases import SHAPE, SPACING, Files, write_case
from tests.support.volume_files import write_nifti
from ui.viewer import streamed_scenes, volumes
from ui.viewer.file_scene import file_scene
from ui.viewer.scenes import Scene

NAMES = {REFERENCE: {10: "a", 150: "b"}, SEGMENTATION: {1: "a", 2: "b"}}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_case(tmp_path / "case")


def scene_of(files: Files) -> Scene:
    paths = {REFERENCE: files.reference, SEGMENTATION: files.segmentation}
    found = {role: read_segmentation_values(path) for role, path in paths.items()}
    return file_scene(file_case([files.image], found, NAMES))


def voxels(url: str) -> np.ndarray:
    content = gzip.decompress(volumes._published[url.removeprefix(volumes.PREFIX)].read_bytes())
    return np.frombuffer(content, np.uint8).reshape(SHAPE, order="F")


def test_layers_hold_the_classes_of_both_files(files: Files) -> None:
    scene = scene_of(files)
    assert [c["name"] for c in scene.classes] == ["a", "b"] and [c.name for c in scene.channels] == ["scan"]
    assert np.array_equal(voxels(scene.layers["truth"]), np.select([files.truth == 10, files.truth == 150], [1, 2]))
    assert np.array_equal(voxels(scene.layers["prediction"]), files.prediction)


def test_file_stored_in_another_order_is_shown_in_place(files: Files) -> None:
    affine = SPACING @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_nifti(files.segmentation, np.ascontiguousarray(files.prediction[::-1]), affine)
    assert np.array_equal(voxels(scene_of(files).layers["prediction"]), files.prediction)


def test_changed_file_has_another_address(files: Files) -> None:
    before = scene_of(files).layers
    write_nifti(files.segmentation, files.truth, SPACING)
    paths = {REFERENCE: files.reference, SEGMENTATION: files.segmentation}
    found = {role: read_segmentation_values(path) for role, path in paths.items()}
    after = file_scene(file_case([files.image], found, {**NAMES, SEGMENTATION: {10: "a", 150: "b"}})).layers
    assert after["truth"] == before["truth"] and after["prediction"] != before["prediction"]


def test_large_images_are_streamed_with_both_segmentations(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_scenes, "WHOLE_VOXELS", 100)
    scene = scene_of(files)
    assert scene.streamed and scene.layers.keys() == {"truth", "prediction"}
    assert len({scene.image, *scene.layers.values()}) == 3


def test_another_grid_is_not_shown(files: Files) -> None:
    write_nifti(files.segmentation, files.prediction, SPACING @ np.diag([1, -1, 1, 1]))
    with pytest.raises(UserError, match="front-back"):
        scene_of(files)
