"""A second prediction lies on the voxels of its image, whatever its file states about orientation."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.layouts.base import Dataset
from core.errors import VolumeError
from core.labels import LabelSpace
from tests.support.balls import write_balls
from tests.support.dicom_labels import write_case, write_seg
from tests.support.foreign_volumes import oblique_affine, phantom
from tests.support.volume_files import load, write_nifti
from ui.viewer import volumes
from ui.viewer.scenes import Scene, subject_scene
from ui.viewer.second_prediction import LAYER, SecondFile, with_second

SHAPE, AFFINE = (8, 9, 7), oblique_affine()


@pytest.fixture
def data(tmp_path: Path, checkpoints: Path) -> Path:
    return write_balls(tmp_path / "balls", subjects=2)


def shown(data: Path, file: Path, labels: LabelSpace | None = None) -> tuple[np.ndarray, list[str]]:
    """What the viewer shows of a second file of the subject that is stored with flipped axes, and the warnings."""
    dataset, id = open_dataset(data), flipped(open_dataset(data))
    scene, warnings = with_second(
        subject_scene(data, id), dataset, id, labels or dataset.labels, SecondFile(file, dataset.labels)
    )
    return layer(scene), warnings


def layer(scene: Scene) -> np.ndarray:
    """Class indices of the second prediction, shape (i, j, k)."""
    path = volumes._published[scene.layers[LAYER].removeprefix(volumes.PREFIX)]
    values = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    return values.reshape(scene.grid.shape[::-1]).transpose(2, 1, 0)


def flipped(dataset: Dataset) -> str:
    """The subject whose files are not in canonical order."""
    return next(id for id in dataset.ids if any(reverse for _, reverse in load_subject(dataset, id).stored.file_axes))


def truth_of(data: Path) -> tuple[Path, np.ndarray]:
    dataset = open_dataset(data)
    subject, loaded = dataset.subject(flipped(dataset)), load_subject(dataset, flipped(dataset))
    assert subject.label is not None and loaded.label is not None
    assert not np.array_equal(loaded.label, loaded.label[::-1]), "a mirrored map is another one"
    return subject.label, loaded.label


def test_a_file_without_orientation_is_not_mirrored(data: Path, tmp_path: Path) -> None:
    file, truth = truth_of(data)
    header = load(file).header.copy()
    header["sform_code"] = header["qform_code"] = 0
    copy = tmp_path / "copy.nii.gz"
    nib.Nifti1Image(np.asarray(load(file).dataobj), None, header).to_filename(copy)
    found, warnings = shown(data, copy)
    assert np.array_equal(found, truth)
    assert len(warnings) == 1 and "states no orientation" in warnings[0]


def test_axes_in_another_order_are_the_same_voxels_and_another_grid_is_refused(data: Path, tmp_path: Path) -> None:
    file, truth = truth_of(data)
    canonical = nib.as_closest_canonical(load(file))
    found, warnings = shown(data, write_nifti(tmp_path / "ras.nii.gz", np.asarray(canonical.dataobj), canonical.affine))
    assert np.array_equal(found, truth) and not warnings
    turned = load(file).affine @ np.diag([-1, 1, 1, 1])
    with pytest.raises(VolumeError, match="on the grid of the image"):
        shown(data, write_nifti(tmp_path / "turned.nii.gz", np.asarray(load(file).dataobj), turned))


def test_a_class_that_the_first_prediction_lacks_is_named_where_it_has_voxels(data: Path) -> None:
    file, truth = truth_of(data)
    dataset = open_dataset(data)
    found, warnings = shown(data, file, dataset.labels.subset(dataset.labels.names[1:2]))
    assert np.array_equal(found, truth == 1)
    hidden = dataset.labels.names[2]
    assert warnings == [f"not shown, as the first prediction has no such class: {hidden}"]


@pytest.mark.slow
def test_segments_of_a_dicom_file_are_the_classes_of_their_names(tmp_path: Path, checkpoints: Path) -> None:
    random, data = np.random.default_rng(0).random(SHAPE), tmp_path / "set"
    masks = {"liver": random > 0.6, "tumour": random < 0.3}
    write_case(data / "im", phantom(SHAPE), AFFINE)
    write_seg(data / "truth.dcm", masks, AFFINE)
    dataset = open_dataset(data)
    (id,) = dataset.ids
    other_order = write_seg(data / ".second.dcm", dict(reversed(masks.items())), AFFINE)
    scene, _ = with_second(
        subject_scene(data, id), dataset, id, dataset.labels, SecondFile(other_order, dataset.labels)
    )
    truth = load_subject(dataset, id).label
    assert truth is not None and np.array_equal(layer(scene), truth)
    strange = write_seg(data / ".third.dcm", {"lung": masks["liver"]}, AFFINE)
    with pytest.raises(VolumeError, match=r"named as classes \(liver, tumour\), got lung"):
        with_second(scene, dataset, id, dataset.labels, SecondFile(strange, dataset.labels))
