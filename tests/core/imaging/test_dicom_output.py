"""DICOM SEG that is written for a DICOM series, read back by highdicom and by this program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.dicom_output import SegmentedSeries, check_dicom_output, write_dicom_segmentation
from core.imaging.geometry import from_canonical
from core.imaging.volume import read_header, read_label
from core.labels import LabelSpace
from tests.support.dicom_labels import FRAME, write_case
from tests.support.foreign_volumes import Series, oblique_affine, phantom, write_multiframe, write_series
from tests.support.volume_files import write_nifti

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_decoded_cache")]

SHAPE = (8, 9, 7)
LABELS = LabelSpace.from_raw({0: "background", 10: "CSF", 150: "Tumeur é", 250: "WM"})


def series_of(images: Path, channel: int = 0) -> SegmentedSeries:
    return SegmentedSeries(images, channel, read_header(images).geometry, LABELS, "fast-1")


def classes_of(images: Path) -> np.ndarray:
    """Class indices in canonical order; the last class has no voxels, the first slice is empty."""
    canonical = read_header(images).geometry.canonical.shape
    index = np.random.default_rng(0).integers(0, 3, canonical).astype(np.uint8)
    stored = from_canonical(index, read_header(images).geometry)
    stored[:, :, 0] = 0
    return index


@pytest.mark.parametrize("shear", [pytest.param(0.0, marks=pytest.mark.long), 0.3])
def test_what_is_written_is_read_back_voxel_by_voxel(tmp_path: Path, shear: float) -> None:
    import highdicom

    images = write_case(tmp_path / "im", phantom(SHAPE), oblique_affine(shear))
    index, series = classes_of(images), series_of(images)
    out = tmp_path / "seg" / "a.dcm"
    out.parent.mkdir()
    write_dicom_segmentation(out, index, series)

    np.testing.assert_array_equal(read_label(out).data[0], index)
    assert read_header(out).geometry == read_header(images).geometry
    table = read_header(out).segments
    assert table is not None
    assert [(s.number, s.name) for s in table.segments] == [(1, "CSF"), (2, "Tumeur é"), (3, "WM")]
    colours = zip([s.colour for s in table.segments], [c.colour for c in LABELS.foreground], strict=True)
    for found, expected in colours:
        assert np.abs(np.array(_rgb(found)) - _rgb(expected)).max() <= 1, "16 bits of CIELab are no exact RGB"

    seg = highdicom.seg.segread(out)
    assert seg.get_default_dimension_index_pointers() is not None
    described = seg.get_segment_description(2)
    assert described.segment_label == "Tumeur é" and described.algorithm_type.value == "AUTOMATIC"
    assert described.algorithm_identification is not None
    assert described.algorithm_identification[0].AlgorithmName == "fast-1"
    instances = [f"1.2.3.4.{number}" for number in range(1, SHAPE[2] + 1)]
    referenced = [str(uid) for *_, uid in seg.get_source_image_uids()]
    assert referenced == instances and str(seg.FrameOfReferenceUID) == FRAME
    frames = seg.get_pixels_by_source_instance(
        instances, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    stored = from_canonical(index, series.stored)
    by_number = stored if np.array_equal(_numbers(images), instances) else stored[:, :, ::-1]
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), by_number)


def _rgb(colour: str) -> list[int]:
    return [int(colour[n : n + 2], 16) for n in (1, 3, 5)]


def _numbers(images: Path) -> list[str]:
    """UIDs of the slices in the order in which they are read: along the normal."""
    import pydicom

    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in images.iterdir()]
    row, column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    headers.sort(key=lambda h: float(np.array(h.ImagePositionPatient, float) @ normal))
    return [str(h.SOPInstanceUID) for h in headers]


def test_frames_of_one_file_are_referred_to(tmp_path: Path) -> None:
    (tmp_path / "im").mkdir()
    file = write_multiframe(tmp_path / "im" / "a.dcm", phantom(SHAPE), oblique_affine(), order=[3, 1, 6, 0, 2, 5, 4])
    _set(file, FrameOfReferenceUID=FRAME, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1")  # enhanced magnetic resonance
    index = classes_of(file)
    out = tmp_path / "seg.dcm"
    write_dicom_segmentation(out, index, series_of(file))
    np.testing.assert_array_equal(read_label(out).data[0], index)


def test_a_segmentation_without_voxels_is_written(tmp_path: Path) -> None:
    images = write_case(tmp_path / "im", phantom(SHAPE), oblique_affine())
    out = tmp_path / "seg.dcm"
    write_dicom_segmentation(out, np.zeros_like(classes_of(images)), series_of(images))
    assert not read_label(out).data.any()
    assert any("no voxels" in warning for warning in read_header(out).warnings)


def test_what_cannot_be_referred_to_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "seg.dcm"
    with pytest.raises(VolumeError, match=r"expected a DICOM series as the image.*write NIfTI"):
        check_dicom_output(out, write_nifti(tmp_path / "a.nii", phantom(SHAPE)))
    images = write_series(tmp_path / "im", phantom(SHAPE), oblique_affine(), Series("1.2.3.4"))
    with pytest.raises(VolumeError, match="expected FrameOfReferenceUID in its files, got none"):
        write_dicom_segmentation(out, classes_of(images), series_of(images))
    assert not out.exists()


def _set(file: Path, **elements: Any) -> None:
    import pydicom

    header = pydicom.dcmread(file)
    for name, value in elements.items():
        setattr(header, name, value)
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.save_as(file)
