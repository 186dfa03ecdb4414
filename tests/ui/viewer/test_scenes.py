"""Scenes: volumes, classes and grids of subjects and predictions."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.requests import Request

from core.datasets import DataOptions, load_subject, open_dataset
from core.errors import VolumeError
from core.imaging import display
from core.labels import IGNORE_COLOUR, IGNORE_INDEX, LabelSpace
from tests.support.balls import CLASSES, SHAPE, write_balls
from tests.support.encoded_images import decode_image
from tests.support.ignored import SLAB, write_ignored_balls
from tests.support.volume_files import label_map, make_decathlon, voxels, write_nifti
from ui.viewer import scenes, volumes
from ui.viewer.scenes import subject_scene


@pytest.fixture
def data(tmp_path: Path, checkpoints: Path) -> Path:
    return write_balls(tmp_path / "balls", subjects=2, channels=2)


def content(url: str, dtype: str = "u1") -> np.ndarray:
    path = volumes._published[url.removeprefix(volumes.PREFIX)]
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype)


def ask(url: str, query: str) -> Any:
    token = url.removeprefix(volumes.PREFIX)
    scope = {"type": "http", "method": "GET", "path": url, "headers": [], "path_params": {"token": token}}
    return volumes.volume(Request(scope | {"query_string": query.encode()}))


def volume(url: str) -> np.ndarray:
    return content(url).reshape(SHAPE[::-1]).transpose(2, 1, 0)


def test_image_and_truth_are_in_canonical_order(data: Path) -> None:
    dataset = open_dataset(data)
    for id in dataset.ids:  # the second is stored with flipped axes
        scene = subject_scene(data, id)
        loaded = load_subject(dataset, id)
        assert loaded.label is not None
        assert scene.grid.file_axes == loaded.stored.file_axes
        assert scene.grid.shape == SHAPE and [c.name for c in scene.channels] == list(dataset.modalities)
        assert [c["name"] for c in scene.classes] == list(CLASSES[1:])
        assert np.array_equal(volume(scene.layers["truth"]), loaded.label)
        assert scene.intensities == "", "small images are exact"
        body = content(scene.image).tobytes()
        assert np.array_equal(decode_image(body, scene.channels, SHAPE), loaded.image)


def test_intensities_that_an_image_holds_rounded_are_served_one_by_one(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "SORTED_VOXELS", 0)
    scene = subject_scene(data, "ball_1")
    image = load_subject(open_dataset(data), "ball_1").image
    assert not any(c.exact for c in scene.channels)
    voxels = [(0, 0, 0), (5, 6, 7), (19, 23, 17)]
    numbers = [n * image[0].size + int(np.ravel_multi_index(v, SHAPE)) for n in (0, 1) for v in voxels]
    answer = ask(scene.intensities, f"at={','.join(map(str, numbers))}")
    assert answer.headers["cache-control"] == "no-store"
    assert np.frombuffer(answer.body, "<f4").tolist() == [image[n][v] for n in (0, 1) for v in voxels]
    for wrong in ("", "at=", "at=-1", "at=x", f"at={image.size}", "at=" + ",".join(["0"] * 65)):
        assert ask(scene.intensities, wrong).status_code == 400, wrong
    again = subject_scene(data, "ball_1")
    assert again == scene
    volumes._published[scene.intensities.removeprefix(volumes.PREFIX)].unlink()
    assert subject_scene(data, "ball_1") == scene, "made again"
    assert ask(scene.intensities, "at=0").status_code == 200


def test_image_published_by_an_earlier_version_is_encoded_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "ENCODING", 1)
    before = subject_scene(data, "ball_0").image
    monkeypatch.undo()
    assert subject_scene(data, "ball_0").image != before


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


def test_ignored_voxels_are_named_and_keep_their_index(tmp_path: Path, checkpoints: Path) -> None:
    folder = write_ignored_balls(tmp_path / "ignored", subjects=2)
    scene = subject_scene(folder, "ball_0", open_dataset(folder).labels.subset(["dark"]))
    assert scene.ignore == {"name": "ignore", "colour": IGNORE_COLOUR}
    assert [c["name"] for c in scene.classes] == ["dark"]
    truth = volume(scene.layers["truth"])
    assert (truth[:, :SLAB] == IGNORE_INDEX).all() and set(np.unique(truth[:, SLAB:])) <= {0, 1}
    as_class = subject_scene(folder, "ball_0", options=DataOptions(ignore="none"))
    assert as_class.ignore is None and [c["name"] for c in as_class.classes] == ["bright", "dark", "ignore"]


def test_grid_says_how_its_axes_are_tilted(tmp_path: Path, checkpoints: Path) -> None:
    folder = make_decathlon(tmp_path / "tilted")
    affine = np.diag([1.0, 1, 5, 1])
    affine[1, 2] = 5 * np.tan(np.deg2rad(30))
    for part, array in (("imagesTr", voxels()), ("labelsTr", label_map((0, 1, 2)))):
        write_nifti(folder / part / "case_001.nii.gz", array, affine)
    assert subject_scene(folder, "case_001").grid.tilt == "sheared 30°"
    assert subject_scene(folder, "case_002").grid.tilt == ""
