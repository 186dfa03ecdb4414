"""Folders of DICOM series with segmentations and contours, opened by what their headers refer to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.folder_description import describe
from core.datasets.registry import UnknownLayoutError
from core.datasets.saved_descriptions import save_description
from core.errors import DatasetError, VolumeError
from tests.support.dicom_labels import SegOptions, contours_of, write_case, write_rtstruct, write_seg
from tests.support.foreign_volumes import Series, oblique_affine, phantom, write_multiframe, write_series

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_decoded_cache")]

SHAPE = (6, 5, 4)
AFFINE = oblique_affine()


def boxes() -> dict[str, np.ndarray]:
    """A liver with a tumour in it, and a body around both."""
    body, liver, tumour = (np.zeros(SHAPE, bool) for _ in range(3))
    body[:5], liver[1:4, 1:4], tumour[2:4, 2:4, 1:3] = True, True, True
    return {"BODY": body, "Liver": liver, "Tumour": tumour}


def write_images(folder: Path, uid: str, **elements: Any) -> Path:
    return write_case(folder, phantom(SHAPE), AFFINE, uid, StudyInstanceUID=f"9.{uid}", **elements)


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))


def test_series_and_label_maps_are_matched_by_uid_wherever_they_lie(tmp_path: Path) -> None:
    masks, root = boxes(), tmp_path / "data"
    apart = {"Liver": masks["Liver"] & ~masks["Tumour"], "Tumour": masks["Tumour"]}
    write_images(root / "images" / "b", "1.1", PatientID="x")
    write_images(root / "images" / "a", "1.2", PatientID="y")
    write_images(root / "images" / "c", "1.3", PatientID="y")
    write_images(root / "images" / "d", "1.4", PatientID="z")
    write_seg(root / "labels" / "1.dcm", apart, AFFINE, "1.2")
    write_seg(root / "labels" / "2.dcm", dict(reversed(apart.items())), AFFINE, "1.1")
    regions = {name.upper(): contours_of(mask, AFFINE) for name, mask in apart.items()}
    write_rtstruct(root / "labels" / "3.dcm", regions, "1.3")
    write_seg(root / "labels" / "4.dcm", apart, AFFINE, "1.99")
    dataset = open_dataset(root)
    assert (dataset.layout, dataset.ids, dataset.modalities) == ("dicom", ("a", "b", "c", "d"), ("MR",))
    assert dataset.labels.names == ("background", "Liver", "Tumour")
    assert dataset.labelled_ids == ("a", "b", "c")
    assert "refer to" in dataset.reason
    assert any(
        "1 segmentations or contours refer to series that are not here" in n and "4.dcm" in n for n in dataset.notes
    )
    patients = [dataset.subject(id).entities["patient"] for id in dataset.ids]
    assert patients[0] == patients[2] and len(set(patients)) == 3 and "y" not in patients
    first, *others = (load_subject(dataset, id).label for id in dataset.labelled_ids)
    assert first is not None and np.bincount(first.ravel()).tolist() == [84, 28, 8]
    for label in others:
        np.testing.assert_array_equal(label, first)


def test_multi_frame_files_are_cases_with_the_voxels_and_labels_of_their_frames(tmp_path: Path) -> None:
    liver, order = boxes()["Liver"], [2, 0, 3, 1]
    for number, case in enumerate(("p1", "p2"), start=1):
        series = Series(f"1.{number}", elements={"StudyInstanceUID": f"9.{number}", "PatientID": case})
        write_multiframe(tmp_path / case / "im" / "1.dcm", phantom(SHAPE) + number, AFFINE, order, series)
        write_seg(tmp_path / case / "seg" / "1.dcm", {"Liver": liver}, AFFINE, f"1.{number}")
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.labelled_ids, dataset.labels.names[1:]) == ("dicom", ("p1", "p2"), ("Liver",))
    for number, case in enumerate(dataset.ids, start=1):
        loaded = load_subject(dataset, case)
        values = nib.Nifti1Image(2 * (phantom(SHAPE) + number) - 7, AFFINE)
        turned = [
            nib.as_closest_canonical(image) for image in (values, nib.Nifti1Image(liver.astype(np.uint8), AFFINE))
        ]
        np.testing.assert_array_equal(loaded.image[0], np.asanyarray(turned[0].dataobj))
        np.testing.assert_array_equal(loaded.label, np.asanyarray(turned[1].dataobj))
        np.testing.assert_allclose(loaded.geometry.affine, turned[0].affine, atol=1e-5)
    assert check(dataset).ok


def test_a_folder_of_several_series_and_a_segmentation_is_read(tmp_path: Path) -> None:
    for case, uid in (("p1", "1.1"), ("p2", "1.2")):
        write_images(tmp_path / "data" / case, uid, SeriesDescription="T1")
        scout = Series(f"{uid}.9", number=50, elements={"StudyInstanceUID": f"9.{uid}"})
        write_series(tmp_path / "data" / case, phantom((3, 3, 3)), AFFINE, scout)
        write_seg(tmp_path / "data" / case / "zz.dcm", {"Liver": boxes()["Liver"]}, AFFINE, uid)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.ids == ("p1", "p2")
    assert any("2 further series have no segmentation or contours" in note for note in dataset.notes)
    subject = load_subject(dataset, "p2")
    assert subject.label is not None and int(subject.label.sum()) == 36


def test_classes_are_chosen_merged_and_ordered_by_a_description(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for case, uid in (("p1", "1.1"), ("p2", "1.2")):
        write_images(folder / case / "im", uid)
        write_seg(folder / case / "seg.dcm", boxes(), AFFINE, uid)
    dataset = open_dataset(folder)
    with pytest.raises(VolumeError, match=r"BODY and Liver .*--overlap later"):
        load_subject(dataset, "p1")
    described = describe(folder)
    assert described.content["classes"] == {"BODY": "BODY", "Liver": "Liver", "Tumour": "Tumour"}
    assert [case.id for case in described.assignment.cases] == ["p1", "p2"]
    changed = described.with_changes(
        {"classes": {"organ": "liver", "tumour": "TUMOUR"}, "overlap": "later", "colours": None}
    )
    save_description(folder, changed.content)
    dataset = open_dataset(folder)
    assert (dataset.layout, dataset.labels.names) == ("saved", ("background", "organ", "tumour"))
    assert any("segments that are no class are not read: BODY" in note for note in dataset.notes)
    label = load_subject(dataset, "p2").label
    assert label is not None and np.bincount(label.ravel()).tolist() == [84, 28, 8]


def test_segmentations_and_contours_of_one_series_are_two_raters(tmp_path: Path) -> None:
    folder, liver = tmp_path / "data", boxes()["Liver"]
    for case, uid in (("p1", "1.1"), ("p2", "1.2")):
        write_images(folder / case / "im", uid)
        write_seg(folder / case / "seg.dcm", {"Liver": liver}, AFFINE, uid)
    write_rtstruct(folder / "p1" / "rt.dcm", {"Liver": contours_of(liver, AFFINE)}, "1.1")
    dataset = open_dataset(folder)
    assert list(dataset.subject("p1").raters) == ["RTSTRUCT", "SEG"]
    assert dataset.labelled_ids == ("p1", "p2"), "a subject with one label map is read too"


def test_copies_of_a_segmentation_are_no_raters_and_edited_ones_are_with_a_warning(tmp_path: Path) -> None:
    root, masks = tmp_path / "data", boxes()
    for case, uid in (("p1", "1.1"), ("p2", "1.2")):
        write_images(root / case / "im", uid)
        write_seg(root / case / "seg.dcm", {"Liver": masks["Liver"]}, AFFINE, uid)
        (root / "a_backup" / case).mkdir(parents=True)
        shutil.copy(root / case / "seg.dcm", root / "a_backup" / case / "seg.dcm")
    dataset = open_dataset(root)
    assert "2 segmentations or contours are copies of others and are not read again" in dataset.notes
    assert dataset.warnings == () and not dataset.subject("p1").raters
    assert dataset.subject("p1").label == root / "p1" / "seg.dcm", "the copy beside its series"
    write_seg(root / "a_backup" / "p1" / "seg.dcm", {"Liver": masks["BODY"]}, AFFINE, "1.1")  # with the same UID
    dataset = open_dataset(root)
    assert len(dataset.subject("p1").raters) == 2
    (warning,) = dataset.warnings
    assert "of a series have the UID of another one" in warning and "p1/seg.dcm" in warning


@pytest.mark.parametrize("stated", ["series", "both series", "both series alone", "images"])
def test_a_segmentation_of_the_second_of_two_grids_finds_its_series(tmp_path: Path, stated: str) -> None:
    """Both series belong to one study and lie at one place; only the second has the voxels of the segmentation."""

    def change(header: Any) -> None:
        item = header.ReferencedSeriesSequence[0]
        images = [type(item)() for _ in range(SHAPE[2])]
        for number, image in enumerate(images, start=1):
            image.ReferencedSOPInstanceUID = f"1.2.{number}"
        if stated == "both series":
            other = type(item)()
            other.SeriesInstanceUID = "1.1"
            item.ReferencedInstanceSequence = images
            header.ReferencedSeriesSequence = [other, item]
        elif stated == "both series alone":
            other = type(item)()
            other.SeriesInstanceUID = "1.1"
            header.ReferencedSeriesSequence = [other, item]
        elif stated == "images":
            del header.ReferencedSeriesSequence
            source = type(item)()
            source.SourceImageSequence = images
            header.SharedFunctionalGroupsSequence[0].DerivationImageSequence = [source]

    root = tmp_path / "data"
    study: dict[str, Any] = {"StudyInstanceUID": "9.1"}
    thick = AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])
    write_case(root / "p1" / "a_thick", phantom((3, 3, 4)), thick, "1.1", **study)
    write_case(root / "p1" / "b_thin", phantom(SHAPE), AFFINE, "1.2", **study)
    write_seg(root / "p1" / "seg.dcm", {"Liver": boxes()["Liver"]}, AFFINE, "1.2", SegOptions(change=change))
    dataset = open_dataset(root)
    assert dataset.ids == dataset.labelled_ids == ("p1",)
    subject = load_subject(dataset, "p1")
    assert subject.label is not None and subject.label.shape == subject.image.shape[1:]
    assert int(subject.label.sum()) == 36


def test_series_alone_are_named_as_what_they_are(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "p1", "1.1")
    write_images(tmp_path / "data" / "p2", "1.2")
    with pytest.raises(UnknownLayoutError, match=r"dicom .* comes nearest.* 2 images and 0 label maps"):
        open_dataset(tmp_path / "data")
    assert open_dataset(tmp_path / "data", "dicom").ids == ("p1", "p2")


def damage_header(file: Path) -> Path:
    """Overwrite the elements that say what a DICOM file is; its first bytes still say that it is DICOM."""
    content = file.read_bytes()
    file.write_bytes(content[:150] + b"\xff" * 300 + content[450:])
    return file


def test_slices_of_a_series_in_two_folders_are_a_warning_and_a_copy_is_a_note(tmp_path: Path) -> None:
    """Archives store some series in several folders: without a word, half of the patient was left out."""
    root = tmp_path / "data"
    images = write_images(root / "a", "1.1")
    write_seg(root / "a.dcm", {"Liver": boxes()["Liver"]}, AFFINE, "1.1")
    shutil.copytree(images, root / "b")
    dataset = open_dataset(root)
    assert "1 series lie in several folders: the first of each is read" in dataset.notes and not dataset.warnings
    slices = sorted(images.iterdir())
    for number, file in enumerate(slices):
        (root / "ab"[number % 2] / file.name).unlink()
    (warning,) = open_dataset(root).warnings
    assert warning.startswith("1 folder with further slices of a series in another one") and "b (a is read)" in warning


def test_a_file_with_a_damaged_header_is_a_warning_of_the_data_set(tmp_path: Path) -> None:
    folder, liver = tmp_path / "data", boxes()["Liver"]
    for case, uid in (("p1", "1.1"), ("p2", "1.2")):
        write_images(folder / case / "im", uid)
        write_seg(folder / case / "seg.dcm", {"Liver": liver}, AFFINE, uid)
    (folder / "p2" / "im" / "._0001.dcm").write_bytes(b"written by macOS")
    assert open_dataset(folder).warnings == ()
    damage_header(folder / "p2" / "seg.dcm")
    damage_header(last := sorted((folder / "p1" / "im").iterdir())[-1])
    dataset = open_dataset(folder)
    (warning,) = dataset.warnings
    assert "2 DICOM files" in warning and "p2/seg.dcm" in warning and f"p1/im/{last.name}" in warning
    assert (dataset.ids, dataset.labelled_ids) == (("p1", "p2"), ("p1",))
    found = [f for f in check(dataset).findings if f.message in warning]
    assert [f.severity for f in found] == ["warning"]


def test_a_folder_whose_only_series_is_damaged_says_so(tmp_path: Path) -> None:
    for file in write_images(tmp_path / "data" / "p1", "1.1").iterdir():
        damage_header(file)
    with pytest.raises(DatasetError, match=r"p1/.*copy them again"):
        open_dataset(tmp_path / "data", "dicom")
