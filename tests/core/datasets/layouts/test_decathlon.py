"""Layout of the Medical Segmentation Decathlon: valid and invalid dataset.json, reading of its subjects."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.datasets import fingerprint, load_subject, open_dataset
from core.datasets.fitness import judge_files
from core.errors import DatasetError, VolumeError
from tests.core.imaging.test_volume import reoriented
from tests.support.volume_files import AFFINE, SHAPE, label_map, make_decathlon, voxels, write_nifti

ENTRY = {"image": "./imagesTr/case_001.nii.gz", "label": "./labelsTr/case_001.nii.gz"}


def test_single_modality_data_set(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    assert (dataset.name, dataset.licence, dataset.modalities) == ("Toy", "CC0", ("M0",))
    assert dataset.labels.names == ("background", "front", "back")
    assert dataset.ids == ("case_001", "case_002", "case_003") and dataset.notes == ()
    loaded = load_subject(dataset, "case_002")
    assert np.array_equal(loaded.image, voxels(seed=2)[None])
    assert loaded.label is not None and np.array_equal(loaded.label, label_map((0, 1, 2), seed=2))
    assert loaded.first_image.name == "case_002.nii.gz"


def test_channels_of_4d_images_are_modalities(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path, channels=3))
    array = np.moveaxis(voxels((*SHAPE, 3), 1), 3, 0)
    assert np.array_equal(load_subject(dataset, "case_001").image, array)
    assert np.array_equal(load_subject(dataset, "case_001", ("M2", "M0")).image, array[[2, 0]])
    assert np.array_equal(load_subject(dataset, "case_001", ("M1",)).image, array[[1]])
    with pytest.raises(DatasetError, match="modalities: expected some of M0, M1, M2; got FLAIR"):
        load_subject(dataset, "case_001", ("FLAIR",))


def test_wrong_number_of_channels_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path, channels=2))
    write_nifti(tmp_path / "imagesTr" / "case_001.nii.gz", voxels((*SHAPE, 3)))
    with pytest.raises(DatasetError, match=r"case_001\.nii\.gz: expected 2 channels \(M0, M1\) .*Toy.*, got 3"):
        load_subject(dataset, "case_001")
    write_nifti(tmp_path / "imagesTr" / "case_001.nii.gz", voxels())
    with pytest.raises(DatasetError, match=r"expected 2 channels .* got 1"):
        load_subject(dataset, "case_001", ("M0",))


def test_subset_of_classes_is_read(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path, labels={"0": "background", "2": "back", "1": "front"}))
    assert dataset.labels.raw_values == (0, 1, 2)
    raw = label_map((0, 1, 2), seed=1)
    loaded = load_subject(dataset, "case_001", classes=("back",))
    assert loaded.label is not None and np.array_equal(loaded.label, raw == 2)
    with pytest.raises(DatasetError, match="classes: expected some of front, back; got left"):
        load_subject(dataset, "case_001", classes=("left",))


def test_unknown_label_value_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", label_map((0, 1, 2, 7)))
    with pytest.raises(
        DatasetError, match=r"case_001.nii.gz: expected only the label values \[0, 1, 2\], found also 7"
    ):
        load_subject(dataset, "case_001")


def test_sparse_label_values_become_class_indices(tmp_path: Path) -> None:
    labels = {"0": "background", "4": "core", "1": "necrosis", "200": "edema"}
    dataset = open_dataset(make_decathlon(tmp_path, labels=labels))
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", label_map((0, 1, 4, 200)))
    assert dataset.labels.names == ("background", "necrosis", "core", "edema")
    loaded = load_subject(dataset, "case_001")
    assert loaded.label is not None and set(np.unique(loaded.label)) == {0, 1, 2, 3}


def test_label_of_contradicting_orientation_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", label_map((0, 1)), np.diag([-1, 1.5, 2, 1]))
    with pytest.raises(
        DatasetError, match=r"label does not fit the first image of case_001: .*stored as LAS, the image as RAS"
    ):
        load_subject(dataset, "case_001")


@pytest.mark.parametrize("image_codes", ["RAS", "LAS", "PIR"])
@pytest.mark.parametrize("label_codes", ["RAS", "LPS"])
def test_image_and_label_may_be_stored_in_different_axis_orders(
    tmp_path: Path, image_codes: str, label_codes: str
) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    expected = load_subject(dataset, "case_001")
    labels = label_map((0, 1, 2), seed=1)
    reoriented(voxels(seed=1), AFFINE, image_codes).to_filename(tmp_path / "imagesTr" / "case_001.nii.gz")
    reoriented(labels, AFFINE, label_codes).to_filename(tmp_path / "labelsTr" / "case_001.nii.gz")
    loaded = load_subject(dataset, "case_001")
    assert np.array_equal(loaded.image, expected.image)
    assert loaded.label is not None and np.array_equal(loaded.label, labels)
    assert "".join(loaded.stored.axis_codes) == image_codes
    assert fingerprint(dataset).shapes["case_001"] == SHAPE


def test_harmless_deviations_give_notes(tmp_path: Path) -> None:
    hidden = {"image": "./imagesTr/._case_001.nii.gz", "label": "./labelsTr/._case_001.nii.gz"}
    make_decathlon(tmp_path, subjects=4, training=[ENTRY, hidden])
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ("case_001",)
    assert len(dataset.notes) == 3
    assert (
        "'._'" in dataset.notes[0] and "states 4 training cases" in dataset.notes[1] and "case_002" in dataset.notes[2]
    )


def test_missing_listed_file_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    (tmp_path / "imagesTr" / "case_003.nii.gz").unlink()
    (tmp_path / "labelsTr" / "case_002.nii.gz").unlink()
    for id in ("case_002", "case_003"):
        with pytest.raises(VolumeError, match=rf"{id}\.nii\.gz: expected an image file, found nothing there"):
            load_subject(dataset, id)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(modality=None), "expected 'modality' like .*, got nothing"),
        (dict(modality={}), "expected 'modality'"),
        (dict(modality=["T1"]), "expected 'modality'"),
        (dict(modality={"1": "T1"}), "count 0, 1, 2"),
        (dict(modality={"0": "T1", "1": "T1"}), "different names under 'modality'"),
        (dict(modality={"zero": "T1"}), "expected 'modality' like"),
        (dict(labels=None), "expected 'labels'"),
        (dict(labels={"1": "a", "2": "b"}), "smallest value under 'labels' to be 0"),
        (dict(labels={"0": "background"}), "'labels': a label space needs 2"),
        (dict(labels={"0": "background", "1": "background"}), "'labels': the names .* must differ"),
        (dict(labels={"0": "background", "1": ""}), "expected 'labels' like"),
        (dict(labels={"0": "background", "-1": "a"}), "expected 'labels' like"),
        (dict(labels={"0": "background", "99999999999": "a"}), "below 2147483648"),
        (dict(labels={"0": "background", "1.5": "a"}), "expected 'labels' like"),
        (dict(labels={"background": 0, "a": "1"}), "expected 'labels' like"),
        (dict(training=None), "expected a list under 'training', got nothing"),
        (dict(training={}), "expected a list under 'training'"),
        (dict(training=[]), "at least one case"),
        (dict(training=["a.nii.gz"]), "entry 1 of 'training' like"),
        (dict(training=[ENTRY, {"label": "b"}]), "entry 2 of 'training' like"),
        (dict(training=[{"image": 1, "label": "b"}]), "entry 1"),
        (dict(training=[ENTRY, ENTRY]), "separate label file|every subject once"),
        (dict(training=[ENTRY, {**ENTRY, "image": "imagesTr/b.nii.gz"}]), "separate label file"),
        (dict(training=[ENTRY, {"image": "imagesTr/case_001.nii", "label": "b"}]), "every subject once, got case_001"),
        (dict(training=None, channel_names={"0": "T1"}), "nnU-Net"),
    ],
)
def test_invalid_entries_of_dataset_json_are_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    make_decathlon(tmp_path, 1, **changes)
    with pytest.raises(DatasetError, match=match) as caught:
        open_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"labels": {}, "labels": {}}', b"[" * 100_000]
)
def test_malformed_dataset_json_is_refused(tmp_path: Path, content: bytes) -> None:
    make_decathlon(tmp_path, 1)
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"dataset\.json: expected (valid JSON|an object)"):
        open_dataset(tmp_path)


def test_unreadable_dataset_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").mkdir()
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read"):
        open_dataset(tmp_path)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    make_decathlon(tmp_path, 1)
    content = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert open_dataset(tmp_path).ids == ("case_001",)


def test_case_without_label_is_not_labelled(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path, 2, training=[ENTRY, {"image": "imagesTr/case_002.nii.gz"}]))
    assert dataset.labelled_ids == ("case_001",)
    assert load_subject(dataset, "case_002").label is None


@pytest.mark.data
def test_hippocampus_data_set_opens(test_data: Path) -> None:
    dataset = open_dataset(test_data / "Task04_Hippocampus")
    assert len(dataset.ids) == 80 and dataset.notes == ()
    assert dataset.labels.names == ("background", "Anterior", "Posterior")
    geometry = fingerprint(dataset)
    assert set(geometry.spacings_mm.values()) == {(1, 1, 1)}
    assert np.median(list(geometry.shapes.values()), axis=0).round().tolist() == [35, 50, 36]


def test_images_of_the_test_set_that_are_there_are_listed_for_prediction(tmp_path: Path) -> None:
    test = ["./imagesTs/case_007.nii.gz", "./imagesTs/absent.nii.gz", {"image": "./other/x.nii.gz"}]
    folder = make_decathlon(tmp_path, test=test)
    for name in ("imagesTs/case_007", "imagesTs/unlisted", "imagesTs/case_001", "other/x"):
        write_nifti(folder / f"{name}.nii.gz", voxels(seed=1))
    dataset = open_dataset(folder)
    assert dataset.labelled_ids == ("case_001", "case_002", "case_003")
    others = {s.id: s.files[0].relative_to(folder).as_posix() for s in dataset.subjects if s.label is None}
    assert others == {
        "case_007": "imagesTs/case_007.nii.gz",
        "unlisted": "imagesTs/unlisted.nii.gz",
        "imagesTs-case_001": "imagesTs/case_001.nii.gz",
        "x": "other/x.nii.gz",
    }
    assert not judge_files(dataset) and "4 subjects without label map, for prediction only" in dataset.notes[0]


def test_labelled_folders_that_are_not_listed_are_named(tmp_path: Path) -> None:
    """AMOS, whose dataset.json lists the training cases; training on others would change every split."""
    folder = make_decathlon(tmp_path, validation=[{"image": "./imagesVa/v.nii.gz", "label": "./labelsVa/v.nii.gz"}])
    write_nifti(folder / "imagesVa" / "v.nii.gz", voxels(seed=1))
    write_nifti(folder / "labelsVa" / "v.nii.gz", label_map((0, 1, 2), seed=1))
    dataset = open_dataset(folder)
    assert dataset.layout == "decathlon" and len(dataset.ids) == 3
    (note,) = dataset.notes
    assert "imagesVa (1 image file), labelsVa (1 image file)" in note and "--layout" in note


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_decathlon(tmp_path)
    write_nifti(folder / "imagesTs" / "case_007.nii.gz", voxels(seed=1))
    write_nifti(folder / "imagesVa" / "v.nii.gz", voxels(seed=1))
    listdir, iterdir = os.listdir, Path.iterdir

    def checked(path: Path) -> Path:
        if path.name == "imagesTs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path

    monkeypatch.setattr(os, "listdir", lambda path: listdir(checked(Path(path))))
    monkeypatch.setattr(Path, "iterdir", lambda path: iterdir(checked(path)))
    dataset = open_dataset(folder)
    assert len(dataset.ids) == 3 and "1 folder cannot be read: imagesTs" in dataset.notes
    assert any("imagesVa (1 image file)" in note for note in dataset.notes)


def test_a_training_image_that_is_listed_for_prediction_too_is_trained_on(tmp_path: Path) -> None:
    test = ["./imagesTr/case_001.nii.gz", "./labelsTr/../imagesTr/case_002.nii.gz"]
    dataset = open_dataset(make_decathlon(tmp_path, test=test))
    assert dataset.ids == dataset.labelled_ids == ("case_001", "case_002", "case_003")


def test_a_name_for_prediction_that_no_file_can_have_is_as_one_that_is_absent(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path, test=["./imagesTs/" + "x" * 300 + ".nii.gz", "\ud800.nii.gz"]))
    assert dataset.ids == ("case_001", "case_002", "case_003")
