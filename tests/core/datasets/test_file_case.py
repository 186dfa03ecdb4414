"""Files without a data set: names of values, classes of both segmentations, geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets.file_case import (
    REFERENCE,
    SEGMENTATION,
    FileCase,
    check_headers,
    default_names,
    file_case,
    read_segmentation,
)
from core.datasets.segmentation_values import read_segmentation_values
from core.errors import DatasetError, UserError, VolumeError
from core.imaging.volume import write_label
from core.imaging.volume_readers import read_nrrd
from core.labels import IGNORE_INDEX
from tests.support.file_cases import SHAPE, SPACING, Files, two_balls, write_case, write_slicer
from tests.support.volume_files import write_nifti

TABLE = '1 255 0 0 1 1 1 "left"\n2 0 0 255 1 1 1 "right"\n0 0 0 0 0 0 0 "Clear Label"\n'


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_case(tmp_path / "case")


def case_of(files: Files, names: dict[str, dict[int, str]] | None = None) -> FileCase:
    found = {
        REFERENCE: read_segmentation_values(files.reference),
        SEGMENTATION: read_segmentation_values(files.segmentation),
    }
    return file_case([files.image], found, {**default_names(found), **(names or {})})


def test_values_are_counted_and_named_by_number(files: Files) -> None:
    found = read_segmentation_values(files.reference)
    counts = {int(v): int((files.truth == v).sum()) for v in (10, 150)}
    assert {v.value: v.voxels for v in found.values} == counts and found.names_from == ""
    assert found.voxel_ml == pytest.approx(1.8e-3)
    assert default_names({REFERENCE: found}) == {REFERENCE: {10: "label 10", 150: "label 150"}}


@pytest.mark.parametrize("name", ["found.label", "found.txt", "other.label"])
def test_table_of_the_files_name_or_the_only_one_that_fits_names_the_values(files: Files, name: str) -> None:
    (files.segmentation.parent / name).write_text(TABLE)
    found = read_segmentation_values(files.segmentation)
    assert [(v.name, v.colour) for v in found.values] == [("left", "#ff0000"), ("right", "#0000ff")]
    assert found.names_from == name
    assert read_segmentation_values(files.reference).names_from == "", "a table without its values is of other files"


def test_two_tables_that_fit_name_nothing_and_a_given_one_does(files: Files) -> None:
    for name in ("a.label", "b.label"):
        (files.segmentation.parent / name).write_text(TABLE)
    assert read_segmentation_values(files.segmentation).names_from == ""
    given = read_segmentation_values(files.segmentation, [files.segmentation.parent / "b.label"])
    assert [v.name for v in given.values] == ["left", "right"] and given.names_from == "b.label"


def test_description_of_an_exported_prediction_names_the_values(files: Files) -> None:
    geometry = case_of(files).images.subjects[0].images["scan"].path
    stored = read_nifti_geometry(geometry)
    out = write_label_with(files, stored, "labels: 1 grey, 2 white matter")
    found = read_segmentation_values(out)
    assert [v.name for v in found.values] == ["grey", "white matter"] and "description" in found.names_from
    cut = read_segmentation_values(write_label_with(files, stored, "labels: 1 grey, 2 whi..."))
    assert [v.name for v in cut.values] == ["", ""], "a name that is cut off is not taken, nor is half of the list"


def read_nifti_geometry(path: Path) -> object:
    from core.imaging.headers import read_header

    return read_header(path).geometry


def write_label_with(files: Files, stored: object, description: str) -> Path:
    out = files.image.with_name("out.nii.gz")
    write_label(out, files.prediction, stored, files.image, description)  # type: ignore[arg-type]
    return out


def test_segments_of_3d_slicer_have_their_names_and_colours(tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "s.seg.nrrd", two_balls((3, 7)), {7: "Tumor core", 3: "Edema"})
    found = read_segmentation_values(path)
    assert [(v.value, v.name, v.colour) for v in found.values] == [
        (3, "Edema", "#8040ff"),
        (7, "Tumor core", "#8040ff"),
    ]
    image, voxels = read_nrrd(path, lambda nbytes: None)
    assert image.shape == SHAPE and voxels.shape[0] == 1, "the file is an NRRD that ITK reads"


def test_layers_of_3d_slicer_that_overlap_are_refused_by_their_names(tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "s.seg.nrrd", two_balls((1, 1)), {1: "Tumor", 2: "Whole"}, layers=2)
    with pytest.raises(VolumeError, match=r"3D Slicer segmentation with 2 layers .*Tumor.*Whole.*export it as a label"):
        read_segmentation_values(path)


def test_names_of_one_file_count_for_the_same_values_of_the_other(files: Files) -> None:
    (files.reference.parent / "drawn.label").write_text('10 1 2 3 1 1 1 "GM"\n150 1 2 3 1 1 1 "WM"\n')
    same = read_segmentation_values(write_nifti(files.image.with_name("same.nii.gz"), files.truth, SPACING))
    names = default_names({REFERENCE: read_segmentation_values(files.reference), SEGMENTATION: same})
    assert names == {REFERENCE: {10: "GM", 150: "WM"}, SEGMENTATION: {10: "GM", 150: "WM"}}


def test_name_that_a_file_has_twice_is_no_merged_class(files: Files) -> None:
    (files.reference.parent / "drawn.label").write_text('10 1 2 3 1 1 1 "tumour"\n150 1 2 3 1 1 1 "Tumour"\n')
    names = default_names({REFERENCE: read_segmentation_values(files.reference)})
    assert names[REFERENCE] == {10: "tumour (10)", 150: "Tumour (150)"}


def test_both_segmentations_are_read_in_the_classes_of_both(files: Files) -> None:
    case = case_of(files, {SEGMENTATION: {1: "Label 10", 2: "cyst"}})
    assert case.labels.names == ("background", "label 10", "label 150", "cyst")
    truth, warnings = read_segmentation(case.segmentations[REFERENCE])
    prediction, _ = read_segmentation(case.segmentations[SEGMENTATION])
    assert np.array_equal(truth, np.select([files.truth == 10, files.truth == 150], [1, 2])) and warnings == ()
    assert np.array_equal(prediction, np.select([files.prediction == 1, files.prediction == 2], [1, 3]))


def test_values_of_one_name_are_one_class_and_background_is_none(files: Files) -> None:
    case = case_of(files, {REFERENCE: {10: "ball", 150: "ball"}, SEGMENTATION: {1: "ball", 2: "background"}})
    assert case.labels.names == ("background", "ball")
    assert np.array_equal(read_segmentation(case.segmentations[REFERENCE])[0], files.truth > 0)
    assert np.array_equal(read_segmentation(case.segmentations[SEGMENTATION])[0], files.prediction == 1)


def test_ignore_label_is_one_of_the_reference(files: Files) -> None:
    case = case_of(files, {REFERENCE: {10: "ball", 150: "ignore"}, SEGMENTATION: {1: "ball", 2: ""}})
    truth, _ = read_segmentation(case.segmentations[REFERENCE])
    assert np.array_equal(truth == IGNORE_INDEX, files.truth == 150) and case.labels.ignore is not None
    with pytest.raises(DatasetError, match="expected one ignore label, in the reference, got 2 named so"):
        case_of(files, {SEGMENTATION: {1: "ball", 2: "ignore"}})


def test_negative_value_of_the_reference_is_the_ignore_label(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "r.nii.gz", np.where(two_balls((1, 2)) == 2, -1, 1).astype(np.int16))
    found = read_segmentation_values(path)
    assert default_names({REFERENCE: found})[REFERENCE] == {-1: "ignore", 1: "label 1"}
    assert default_names({SEGMENTATION: found})[SEGMENTATION] == {-1: "label -1", 1: "label 1"}


def test_files_without_a_class_are_refused(files: Files) -> None:
    with pytest.raises(DatasetError, match=r"expected a segmentation with labelled voxels, got none in drawn.nii.gz"):
        case_of(files, {REFERENCE: {10: "", 150: "background"}, SEGMENTATION: {1: "", 2: ""}})


def test_image_as_a_segmentation_is_refused(tmp_path: Path) -> None:
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
    with pytest.raises(VolumeError, match="at most 254 label values, got 8447 different values; is it an image"):
        read_segmentation_values(write_nifti(tmp_path / "i.nii.gz", values))


def flipped(affine: np.ndarray, axis: int) -> np.ndarray:
    changed = affine.copy()
    changed[axis, axis] *= -1
    return changed


SHEARED = SPACING + np.array([[0, 0.3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
CROPPED = SPACING @ np.array([[1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 1, 1], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: (v, flipped(SPACING, 0)), "one of the headers mirrors it left-right"),
        (lambda v: (v, flipped(flipped(SPACING, 1), 2)), "one of the headers mirrors it front-back and up-down"),
        (lambda v: (v[::2, ::2, ::2], SPACING @ np.diag([2, 2, 2, 1])), "expected shape 24x22x16, got 12x11x8"),
        (lambda v: (v, SPACING @ np.diag([1.1, 1, 1, 1])), "expected voxels of 1 x 1.2 x 1.5 mm, got 1.1"),
        (lambda v: (v, SHEARED), r"expected voxel axes at right angles, got axes sheared by 14°"),
        (lambda v: (v[2:20, 3:, 1:9], CROPPED), "it is cropped: its first voxel is 3, 4, 2 of the image"),
        (lambda v: (v.transpose(1, 0, 2), SPACING), "expected shape 24x22x16, got 22x24x16"),
    ],
)
def test_segmentation_of_another_grid_is_refused_and_the_difference_named(
    files: Files, change: object, said: str
) -> None:
    voxels, affine = change(files.prediction)  # type: ignore[operator]
    write_nifti(files.segmentation, np.ascontiguousarray(voxels), affine)
    with pytest.raises(DatasetError, match=r"found.nii.gz: the label does not fit .*" + said):
        check_headers(case_of(files))


def test_same_grid_in_another_order_of_the_axes_fits(files: Files) -> None:
    affine = SPACING @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_nifti(files.segmentation, np.ascontiguousarray(files.prediction[::-1]), affine)
    case = case_of(files, {SEGMENTATION: {1: "label 10", 2: "label 150"}})
    assert check_headers(case) == ([], [])
    found, _ = read_segmentation(case.segmentations[SEGMENTATION])
    assert np.array_equal(found, files.prediction)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p, v: write_nifti(p, (v * 0.7).astype(np.float32)), "expected whole numbers as labels.*nearest"),
        (lambda p, v: write_nifti(p, np.stack([v, v], -1)), "one label per voxel, got 2 channels"),
        (
            lambda p, v: write_nifti(p, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
            "expected one number per voxel .*got RGB colour",
        ),
        (lambda p, v: p.write_bytes(b""), "file is cut off|cut off"),
    ],
)
def test_file_that_is_no_label_map_is_refused_by_name(files: Files, write: object, said: str) -> None:
    write(files.segmentation, files.prediction)  # type: ignore[operator]
    with pytest.raises(UserError, match=r"found.nii.gz: .*" + said.replace("file is cut off|", "")):
        read_segmentation_values(files.segmentation)
