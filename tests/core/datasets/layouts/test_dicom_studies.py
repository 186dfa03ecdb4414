"""DICOM studies with several series: modalities by descriptions of series, and what is never stacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.cli import main
from core.datasets import load_subject, open_dataset
from core.datasets.folder_description import DescribedFolder, describe
from core.datasets.layouts.dicom_studies import modality_of
from core.datasets.saved_descriptions import save_description
from core.errors import DatasetError
from core.imaging.dicom_index import DicomSeries
from tests.support.dicom_labels import write_case, write_seg
from tests.support.foreign_volumes import oblique_affine, phantom
from tests.support.volume_files import write_nifti

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_decoded_cache")]

SHAPE = (6, 5, 4)
AFFINE = oblique_affine()
T1, FLAIR = "t1_mprage_sag", "T2 TIRM dark-fluid"


def mask() -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[1:4, 1:4, 1:3] = True
    return inside


def write_study(folder: Path, number: int, **flair: Any) -> None:
    """A study with T1 (value as stored), FLAIR (ten more) and a localizer, a folder for each, and a SEG of FLAIR."""
    common = {"StudyInstanceUID": f"9.{number}", "PatientID": f"patient {number}"}
    write_case(folder / "1", phantom(SHAPE), AFFINE, f"1.{number}.1", SeriesDescription=T1, **common)
    flair = {"array": phantom(SHAPE) + 10, "affine": AFFINE, **flair}
    array, affine = flair.pop("array"), flair.pop("affine")
    write_case(folder / "2", array, affine, f"1.{number}.2", SeriesDescription=FLAIR, **common, **flair)
    write_case(folder / "3", phantom((3, 3, 3)), AFFINE, f"1.{number}.3", SeriesDescription="localizer", **common)
    write_seg(folder / "seg.dcm", {"Lesion": mask()}, AFFINE, f"1.{number}.2")


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))


def described(root: Path, **changes: Any) -> DescribedFolder:
    return describe(root).with_changes(changes) if changes else describe(root)


def test_series_of_a_study_become_the_modalities_of_a_case(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for n in (1, 2):
        write_study(root / f"p{n}", n)
    found = described(root)
    assert found.content["modalities"] == {FLAIR: "FLAIR", T1: "T1"}
    save_description(root, found.content)
    dataset = open_dataset(root)
    assert (dataset.ids, dataset.labelled_ids, dataset.modalities) == (("p1", "p2"), ("p1", "p2"), ("FLAIR", "T1"))
    assert any("2 further series match no modality" in note and "localizer" in note for note in dataset.notes)
    assert not dataset.warnings
    subject = load_subject(dataset, "p2")
    np.testing.assert_array_equal(subject.image[0], subject.image[1] + 10)
    assert subject.label is not None and int(subject.label.sum()) == mask().sum()


def test_names_of_modalities_are_corrected_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    write_study(root / "p1", 1)
    write_study(root / "p2", 2)
    status = main(["data", "describe", str(root), "--modalities", "T1*=anatomy", "*TIRM*=lesions", "--save", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert status == 0 and report["modalities"] == ["anatomy", "lesions"]
    assert report["cases"][0] == {"case": "p1", "anatomy": "p1/1", "lesions": "p1/2", "labels": "p1/seg.dcm"}
    assert open_dataset(root).modalities == ("anatomy", "lesions")


def test_a_series_in_another_frame_of_reference_is_not_read(tmp_path: Path) -> None:
    """The same numbers in other coordinates are other places: voxels would be stacked that do not belong together."""
    root = tmp_path / "data"
    write_study(root / "p1", 1)
    write_study(root / "p2", 2)
    common = {"StudyInstanceUID": "9.2", "PatientID": "patient 2", "SeriesDescription": T1}
    for file in (root / "p2" / "1").iterdir():
        file.unlink()
    write_case(root / "p2" / "1", phantom(SHAPE), AFFINE, "1.2.1", FrameOfReferenceUID="7.7", **common)
    save_description(root, described(root).content)
    dataset = open_dataset(root)
    (warning,) = dataset.warnings
    assert "T1 (p2/1 (t1_mprage_sag)) has another frame of reference than p2/2" in warning
    assert set(dataset.subject("p2").images) == {"FLAIR"}
    with pytest.raises(DatasetError, match="expected an image of T1 for p2"):
        load_subject(dataset, "p2")
    assert load_subject(dataset, "p1").image.shape[0] == 2


def test_series_on_different_grids_are_refused_with_the_reason(tmp_path: Path) -> None:
    root = tmp_path / "data"
    moved = AFFINE.copy()
    moved[:3, 3] += 5
    write_study(root / "p1", 1)
    write_study(root / "p2", 2)
    common = {"StudyInstanceUID": "9.1", "PatientID": "patient 1"}
    for file in (root / "p1" / "1").iterdir():
        file.unlink()
    write_case(root / "p1" / "1", phantom(SHAPE), moved, "1.1.1", SeriesDescription=T1, **common)
    save_description(root, described(root).content)
    with pytest.raises(DatasetError, match=r"does not fit the first image of p1.*resample one onto the other"):
        load_subject(open_dataset(root), "p1")


def test_of_two_series_of_one_modality_the_last_is_read_with_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for n in (1, 2):
        write_study(root / f"p{n}", n)
    common = {"StudyInstanceUID": "9.1", "PatientID": "patient 1", "SeriesNumber": 90}
    write_case(root / "p1" / "4", phantom(SHAPE) + 3, AFFINE, "1.1.9", SeriesDescription=T1, **common)
    save_description(root, described(root).content)
    dataset = open_dataset(root)
    (warning,) = dataset.warnings
    assert "2 series of one study are T1" in warning and "p1/4 (t1_mprage_sag) is read, the last one" in warning
    assert dataset.subject("p1").images["T1"].path == root / "p1" / "4"


def test_label_maps_of_another_format_belong_to_all_series_of_a_study(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for n in (1, 2):
        write_study(root / f"p{n}", n)
        (root / f"p{n}" / "seg.dcm").unlink()
        write_nifti(root / "labels" / f"p{n}_seg.nii.gz", mask() * np.uint8(4), AFFINE)
    found = described(root)
    assert (found.content["dicom"], found.content["labels"]) == (True, "labels/{case}_seg.nii.gz")
    assert found.needs_classes and not found.assignment.left_over
    save_description(root, found.with_changes({"classes": {"lesion": 4}}).content)
    dataset = open_dataset(root)
    assert (dataset.modalities, dataset.labelled_ids) == (("FLAIR", "T1"), ("p1", "p2"))
    subject = load_subject(dataset, "p1")
    assert subject.label is not None and int(subject.label.sum()) == mask().sum()


def test_a_description_of_series_by_their_code_is_read_as_before(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for n in (1, 2):
        write_study(root / f"p{n}", n)
    save_description(root, {"dicom": True, "modalities": {"MR": "T2"}, "classes": {"Lesion": "Lesion"}})
    dataset = open_dataset(root)
    assert (dataset.modalities, dataset.ids) == (("T2",), ("p1", "p2"))
    assert dataset.subject("p1").images["T2"].path == root / "p1" / "2"


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("t1_mprage_sag_p2_iso", "T1"), ("AX T1 POST GD", "T1CE"), ("T1 SE +C", "T1CE"), ("MPRAGE_KM", "T1CE"),
        ("t2_tirm_tra_dark-fluid", "FLAIR"), ("Ax FLAIR FS", "FLAIR"), ("t2_tse_tra", "T2"), ("ep2d_diff_ADC", "ADC"),
        ("ep2d_diff_3scan_trace", "DWI"), ("SWI_Images", "SWI"), ("T1 LOCALIZER", ""), ("t1_mpr_tra MPR", ""), ("", ""),
    ],
)  # fmt: skip
def test_modality_of_a_description(description: str, expected: str) -> None:
    series = DicomSeries("1", "2", "3", "MR", description, "p", 1, "f", 1, ("x",))
    assert modality_of(series) == expected
