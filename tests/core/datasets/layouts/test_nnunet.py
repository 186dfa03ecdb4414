"""Layout of nnU-Net: channels in files of their own, labels by name, the ignore label."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.doctor import check
from core.errors import DatasetError
from core.imaging.foreground_statistics import is_named_ct
from core.labels import IGNORE_INDEX
from tests.support.foreign_volumes import oblique_affine, phantom, write_metaimage, write_mgh, write_nrrd
from tests.support.volume_files import label_map, make_nnunet, voxels, write_nifti


def test_channels_and_labels_are_read(tmp_path: Path) -> None:
    dataset = open_dataset(make_nnunet(tmp_path))
    assert (dataset.layout, dataset.modalities) == ("nnunet", ("M0", "M1"))
    assert dataset.ids == ("case_001", "case_002", "case_003") == dataset.labelled_ids
    assert dataset.labels.names == ("background", "front", "back")
    loaded = load_subject(dataset, "case_002")
    assert np.array_equal(loaded.image, np.stack([voxels(seed=20), voxels(seed=21)]))
    assert loaded.label is not None and np.array_equal(loaded.label, label_map((0, 1, 2), seed=2))
    assert check(dataset).ok


def test_ignore_label_is_left_out(tmp_path: Path) -> None:
    dataset = open_dataset(make_nnunet(tmp_path, labels={"background": 0, "front": 1, "ignore": 2}))
    assert dataset.labels.names == ("background", "front") and dataset.labels.ignore is not None
    label = load_subject(dataset, "case_001").label
    assert label is not None and np.array_equal(label == IGNORE_INDEX, label_map((0, 1, 2), seed=1) == 2)


def test_missing_channels_and_label_maps_are_errors_of_the_doctor(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    (tmp_path / "imagesTr" / "case_001_0001.nii.gz").unlink()
    (tmp_path / "labelsTr" / "case_002.nii.gz").unlink()
    for n in (0, 1):
        (tmp_path / "imagesTr" / f"case_003_000{n}.nii.gz").unlink()
    errors = [(e.subject, e.message) for e in check(tmp_path).with_severity("error")]
    assert errors == [
        ("case_001", "expected an image of M1, found none"),
        ("case_002", "expected a label map, found none"),
        ("case_003", "expected an image of M0 and M1, found none"),
    ]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"channel_names": {}}, "expected 'channel_names' like"),
        ({"channel_names": {"1": "T1"}}, "expected 'channel_names' like"),
        ({"channel_names": {"0": "T1", "1": " "}}, "expected 'channel_names' like"),
        ({"channel_names": {"0": "T1", "1": "T1", "2": "T1 0"}}, "expected 'channel_names' like"),
        ({"labels": None}, "expected 'labels' like"),
        ({"file_ending": ".nrrd"}, r"such as case_0000\.nrrd, found none"),
    ],
)
def test_unusable_descriptions_are_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        open_dataset(make_nnunet(tmp_path, **changes))


def test_channels_of_one_name_are_numbered(tmp_path: Path) -> None:
    dataset = open_dataset(make_nnunet(tmp_path, channels=3, channel_names={"0": "CT", "1": "CT", "2": "PET"}))
    assert dataset.modalities == ("CT 0", "CT 1", "PET") and [is_named_ct(m) for m in dataset.modalities] == [1, 1, 0]
    for channel, modality in enumerate(dataset.modalities):
        (loaded,) = load_subject(dataset, "case_001", (modality,)).image
        assert np.array_equal(loaded, voxels(seed=10 + channel))


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "write"), [(".nrrd", write_nrrd), (".mha", write_metaimage), (".mgz", write_mgh)])
def test_files_of_another_ending_are_read_with_their_geometry(
    tmp_path: Path, ending: str, write: Callable[..., Path]
) -> None:
    make_nnunet(tmp_path, subjects=0, file_ending=ending)
    affine, label = oblique_affine(), (phantom() > 60).astype(np.uint8) + (phantom() > 100)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / folder).mkdir()
    for number in (1, 2):
        for channel in (0, 1):
            array = phantom() + np.int16(10 * number + channel)
            write(tmp_path / "imagesTr" / f"case_{number:03}_{channel:04}{ending}", array, affine)
            write(tmp_path / "imagesTs" / f"test_{number:03}_{channel:04}{ending}", array + 5, affine)
        write(tmp_path / "labelsTr" / f"case_{number:03}{ending}", label, affine)
        write_nifti(tmp_path / "imagesTr" / f"case_{number:03}_0000.nii.gz", phantom(), affine)  # of another ending
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "nnunet" and dataset.labelled_ids == ("case_001", "case_002") and len(dataset.ids) == 4
    loaded = load_subject(dataset, "case_002")
    turned = nib.as_closest_canonical(nib.Nifti1Image(phantom(), affine))
    np.testing.assert_allclose(loaded.geometry.affine, turned.affine, atol=1e-4)
    np.testing.assert_array_equal(loaded.image[0], np.asanyarray(turned.dataobj) + 20)
    np.testing.assert_array_equal(loaded.image[1], np.asanyarray(turned.dataobj) + 21)
    turned = nib.as_closest_canonical(nib.Nifti1Image(label, affine))
    np.testing.assert_array_equal(loaded.label, np.asanyarray(turned.dataobj))
    assert check(dataset).ok


def test_channels_and_labels_of_version_1_are_read_by_their_numbers(tmp_path: Path) -> None:
    training = [
        {"image": f"./imagesTr/case_{n:03}.nii.gz", "label": f"./labelsTr/case_{n:03}.nii.gz"} for n in (1, 2, 3)
    ]
    make_nnunet(
        tmp_path,
        channel_names=None,
        file_ending=None,
        modality={"1": "ADC", "0": "T2"},
        labels={"0": "background", "2": "peripheral zone", "1": "central gland"},
        training=training,
        test=["./imagesTs/case_009.nii.gz"],
    )
    for channel in (0, 1):
        write_nifti(tmp_path / "imagesTs" / f"case_009_{channel:04}.nii.gz", voxels(seed=90 + channel))
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.modalities) == ("nnunet", ("T2", "ADC"))
    assert [(c.raw, c.name) for c in dataset.labels.classes[1:]] == [(1, "central gland"), (2, "peripheral zone")]
    assert dataset.ids == ("case_001", "case_002", "case_003", "case_009") and len(dataset.labelled_ids) == 3
    loaded = load_subject(dataset, "case_003")
    assert np.array_equal(loaded.image, np.stack([voxels(seed=30), voxels(seed=31)]))
    assert np.array_equal(loaded.label, label_map((0, 1, 2), seed=3))  # type: ignore[arg-type]
    assert np.array_equal(load_subject(dataset, "case_009").image[1], voxels(seed=91))
    assert check(dataset).ok


@pytest.mark.parametrize("extra", [{}, {"modality": {"0": "M0", "1": "M1"}}])
def test_a_list_of_cases_that_was_left_over_from_the_decathlon_is_ignored(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    training = [{"image": "./imagesTr/case_001.nii.gz", "label": "./labelsTr/case_001.nii.gz"}]
    dataset = open_dataset(make_nnunet(tmp_path, training=training, **extra))
    assert (dataset.layout, dataset.modalities) == ("nnunet", ("M0", "M1")) and len(dataset.labelled_ids) == 3


def test_images_without_label_maps_are_listed_for_prediction(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path)
    for name in ("case_001", "test_9"):  # one has the name of a training case
        for n in (0, 1):
            write_nifti(folder / "imagesTs" / f"{name}_{n:04d}.nii.gz", voxels(seed=n))
    write_nifti(folder / "labelsTs" / "test_9.nii.gz", label_map((0, 1, 2), seed=1))
    dataset = open_dataset(folder)
    assert dataset.labelled_ids == ("case_001", "case_002", "case_003")
    assert set(dataset.ids) - set(dataset.labelled_ids) == {"imagesTs-case_001", "test_9"}
    assert dataset.subject("case_001").files[0].parent.name == "imagesTr"
    assert dataset.is_predicted_only(dataset.subject("test_9"))
    notes = "\n".join(dataset.notes)
    assert "2 subjects without label map, for prediction only: imagesTs-case_001, test_9" in notes
    assert "not read, since dataset.json does not name them: labelsTs (1 image file)" in notes
    assert check(dataset).ok


def test_a_test_set_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_nnunet(tmp_path)
    write_nifti(folder / "imagesTs" / "test_9_0000.nii.gz", voxels(seed=1))
    iterdir = Path.iterdir

    def refuse(path: Path) -> Any:
        if path.name == "imagesTs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert open_dataset(folder).ids == ("case_001", "case_002", "case_003")
