"""Fingerprint: shapes and voxel sizes from headers, in canonical axis order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets import fingerprint, open_dataset
from core.errors import DatasetError, UserError, VolumeError
from tests.support.volume_files import make_decathlon, make_iseg, voxels, write_nifti


def test_shapes_and_voxel_sizes_are_in_canonical_axis_order(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path, 3))
    stored_pir = np.array([[0, 0, 3.0, 0], [-2.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "imagesTr" / "case_002.nii.gz", voxels((4, 8, 9)), stored_pir)
    (tmp_path / "labelsTr" / "case_001.nii.gz").unlink()  # labels are not read
    geometry = fingerprint(dataset)
    assert geometry.shapes == {"case_001": (6, 7, 5), "case_002": (9, 4, 8), "case_003": (6, 7, 5)}
    assert geometry.spacings_mm["case_002"] == (3, 2, 1)
    assert fingerprint(dataset, ("case_002",)).shapes == {"case_002": (9, 4, 8)}


def test_unknown_subject_and_unreadable_header_are_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make_iseg(tmp_path, 2))
    with pytest.raises(DatasetError, match="expected one of the subjects"):
        fingerprint(dataset, ("unknown",))
    (tmp_path / "subject-1-T1.nii.gz").write_bytes(b"")
    with pytest.raises(VolumeError, match="subject-1-T1"):
        fingerprint(dataset)


def test_subjects_that_cannot_be_read_can_be_left_out(tmp_path: Path) -> None:
    data = make_decathlon(tmp_path)
    (data / "imagesTr" / "case_002.nii.gz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="case_002"):
        fingerprint(open_dataset(data))
    assert list(fingerprint(open_dataset(data), readable_only=True).shapes) == ["case_001", "case_003"]
    for number in (1, 3):
        (data / "imagesTr" / f"case_00{number}.nii.gz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="case_001"):
        fingerprint(open_dataset(data), readable_only=True)
