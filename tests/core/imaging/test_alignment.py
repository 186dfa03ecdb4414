"""Alignment of a file with the first image: units of length, orientation, sform and qform."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.imaging.alignment import Alignment, align_to_first, in_common_unit
from core.imaging.headers import read_header
from tests.support.volume_files import AFFINE, voxels


def write(path: Path, unit: str, sform: np.ndarray | None, qform: np.ndarray | None = None) -> Path:
    """A file with a unit of length; ``None`` leaves out sform or qform."""
    image = nib.Nifti1Image(voxels(), sform if qform is None else qform)
    for set_form, affine in ((image.set_qform, qform), (image.set_sform, sform)):
        set_form(affine, 0 if affine is None else 1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def align(image: Path, label: Path) -> Alignment:
    first = in_common_unit(read_header(image), [read_header(label)])
    return align_to_first(first, read_header(label))


THICK = np.diag([10.0, 10.0, 20.0, 1.0])
THIN = np.diag([0.01, 0.01, 0.02, 1.0])  # the same in mm, if THICK is in micron


@pytest.mark.parametrize(
    ("image", "label", "spacing_mm", "said"),
    [
        (("micron", THICK), ("micron", THICK), 0.01, "lengths are stated in micron"),
        (("micron", THICK), ("mm", THIN), 0.01, ""),
        (("mm", THIN), ("micron", THICK), 0.01, "lengths are stated in micron"),
        (("unknown", THIN), ("micron", THICK), 0.01, "lengths are stated in micron"),
        (("mm", THICK), ("unknown", THICK), 10, ""),
        (("unknown", THICK), ("unknown", THICK), 10, "no unit of length is stated: millimetres are assumed"),
        (("unknown", THICK), ("mm", THICK), 10, ""),
        (("micron", THICK), ("unknown", THICK), 0.01, "no unit of length is stated: micron, the unit of another file"),
        (("micron", THICK), ("unknown", THIN), 0.01, ""),
        (("unknown", THICK), ("micron", THICK), 0.01, "lengths are stated in micron"),
    ],
)
def test_units_of_two_files_are_reconciled(
    tmp_path: Path, image: tuple[str, np.ndarray], label: tuple[str, np.ndarray], spacing_mm: float, said: str
) -> None:
    paths = write(tmp_path / "image.nii", *image), write(tmp_path / "label.nii", *label)
    found = align(*paths)
    assert found.problem == "" and found.header.warnings == ()
    assert found.header.geometry.spacing_mm[0] == pytest.approx(spacing_mm)
    first = in_common_unit(read_header(paths[0]), [read_header(paths[1])])
    assert first.geometry.spacing_mm[0] == pytest.approx(spacing_mm)
    assert len(found.header.notes) == bool(said) and (not said or said in found.header.notes[0])


def test_units_that_contradict_each_other_with_the_same_numbers_are_a_warning(tmp_path: Path) -> None:
    found = align(write(tmp_path / "image.nii", "micron", THICK), write(tmp_path / "label.nii", "mm", THICK))
    assert found.problem == "" and found.header.geometry.spacing_mm[0] == pytest.approx(0.01)
    assert (
        "lengths are stated in mm, those of the first image in micron, with the same numbers"
        in found.header.warnings[0]
    )


def test_units_are_named_where_files_do_not_fit(tmp_path: Path) -> None:
    other = np.diag([3.0, 3.0, 3.0, 1.0])
    found = align(write(tmp_path / "image.nii", "micron", THICK), write(tmp_path / "label.nii", "mm", other))
    assert "expected voxels of 0.01 x 0.01 x 0.02 mm, got 3 x 3 x 3 mm" in found.problem
    assert "(its header states mm, the image's micron); resample" in found.problem


MOVED = AFFINE.copy()
MOVED[1, 3] += 66


@pytest.mark.parametrize(
    ("image", "label", "hint"),
    [
        ((AFFINE, MOVED), (None, MOVED), "but the image's qform would fit; .*image.nii"),
        ((AFFINE, MOVED), (MOVED, None), "but the image's qform would fit"),
        ((AFFINE, None), (MOVED, AFFINE), "but its qform would fit; .*set its sform_code to 0"),
        ((None, AFFINE), (MOVED, AFFINE), "but its qform would fit"),
        ((AFFINE, MOVED), (MOVED @ np.diag([2, 2, 2, 1]), MOVED), "but its qform would fit the image's qform"),
        ((AFFINE, None), (MOVED, None), "; resample one onto the other or correct its header"),
    ],
)
def test_a_qform_that_would_fit_is_named(
    tmp_path: Path, image: tuple[np.ndarray, np.ndarray], label: tuple[np.ndarray, np.ndarray], hint: str
) -> None:
    found = align(write(tmp_path / "image.nii", "mm", *image), write(tmp_path / "label.nii", "mm", *label))
    with pytest.raises(AssertionError, match=hint):
        raise AssertionError(found.problem)
