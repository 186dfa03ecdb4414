"""DICOM SEG and RTSTRUCT against phantoms with known voxels; every fault of them is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.dicom_index import read_identity
from core.imaging.segments import Segment
from core.imaging.volume import read_header, read_image, read_label
from tests.support.dicom_labels import (
    SERIES_UID,
    SegOptions,
    contours_of,
    write_case,
    write_rtstruct,
    write_seg,
)
from tests.support.foreign_volumes import assert_phantom, oblique_affine, phantom

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_decoded_cache")]

SHAPE = (8, 9, 7)
AFFINE = oblique_affine()
REVERSED = AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1.0]])
MIRRORED = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
ANISOTROPIC = AFFINE @ np.diag([0.4, 0.4, 6.0, 1.0])
AFFINES = {
    "oblique": AFFINE, "tilted": oblique_affine(0.3), "reversed": REVERSED, "mirrored": MIRRORED,
    "anisotropic": ANISOTROPIC,
}  # fmt: skip


def make_masks() -> dict[str, np.ndarray]:
    """Two segments without common voxels, with holes; no voxels of one in some slices, none at all in one slice."""
    random = np.random.default_rng(0).random(SHAPE)
    liver, tumour = random > 0.6, random < 0.3
    liver[:, :, 0] = liver[:, :, 2] = tumour[:, :, 2] = False
    return {"liver": liver, "tumour": tumour}


MASKS = make_masks()
VALUES = MASKS["liver"] * 1 + MASKS["tumour"] * 2


def assert_labels(file: Path, images: Path, values: np.ndarray = VALUES) -> None:
    """The label map has these values in the voxels of the images, whose intensities tell them apart."""
    assert read_header(file).geometry == read_header(images).geometry
    stored = phantom(SHAPE).ravel()
    value_of = values.ravel()[np.argsort(stored)]
    found = np.searchsorted(np.sort(stored), read_image(images).data[0])
    np.testing.assert_array_equal(read_label(file).data[0], value_of[found])


def refused(file: Path) -> str:
    """The message with which a label map is refused by name."""
    with pytest.raises(VolumeError) as caught:
        read_label(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def write_square(folder: Path, change: Callable[[Any], None]) -> Path:
    """Contours of a square in every slice, changed before they are written."""
    write_case(folder / "im", phantom(SHAPE), AFFINE)
    mask = np.zeros(SHAPE, bool)
    mask[2:6, 3:7] = True
    return write_rtstruct(folder / "rt.dcm", {"liver": contours_of(mask, AFFINE)}, change=change)


@pytest.mark.parametrize("name", AFFINES)
def test_segments_and_contours_have_the_voxels_of_the_phantom(tmp_path: Path, name: str) -> None:
    affine = AFFINES[name]
    images = write_case(tmp_path / "im", phantom(SHAPE), affine)
    assert_labels(write_seg(tmp_path / "seg" / "a.dcm", MASKS, affine), images)
    regions = {name: contours_of(mask, affine) for name, mask in MASKS.items()}
    contours = write_rtstruct(tmp_path / "rt" / "a.dcm", regions)
    assert_labels(contours, images)
    assert not read_header(contours).warnings


@pytest.mark.parametrize(
    "options",
    [
        SegOptions("LABELMAP"), SegOptions("FRACTIONAL"), SegOptions(keep_empty=True), SegOptions(frame_axes=(1, 2)),
        SegOptions(frame_axes=(-1, -2)), SegOptions(frame_axes=(-2, 0)), SegOptions("LABELMAP", frame_axes=(2, -1)),
    ],
    ids=lambda options: f"{options.kind} {options.frame_axes} {options.keep_empty}",
)  # fmt: skip
def test_frames_are_placed_by_their_own_geometry(tmp_path: Path, options: SegOptions) -> None:
    images = write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    assert_labels(write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE, options=options), images)


def test_segments_have_names_and_colours(tmp_path: Path) -> None:
    def with_colour(header: Any) -> None:
        header.SegmentSequence[1].RecommendedDisplayCIELabValue = [34885, 53485, 50171]  # red, as highdicom writes it

    write_case(tmp_path, phantom(SHAPE), AFFINE)
    file = write_seg(tmp_path / "seg.dcm", MASKS, AFFINE, options=SegOptions(change=with_colour))
    table = read_header(file).segments
    assert table is not None and table.segments == (Segment(1, "liver", ""), Segment(2, "tumour", "#ff0000"))
    contours = write_rtstruct(tmp_path / "rt.dcm", {"liver": contours_of(MASKS["liver"], AFFINE), "lung": []})
    table = read_header(contours).segments
    assert table is not None and table.segments == (Segment(1, "liver", "#ff0000"), Segment(2, "lung", "#ff1000"))
    assert "lung has no contours" in read_header(contours).notes


@pytest.mark.parametrize(("number", "read"), [(b"1.5 ", 1), (b"A-12", 0)])
def test_a_series_is_known_whatever_its_number_is(tmp_path: Path, number: bytes, read: int) -> None:
    """Numbers of series are only names; some systems write no whole numbers."""
    file = next(iter(write_case(tmp_path / "im", phantom(SHAPE), AFFINE, SeriesNumber=7777).iterdir()))
    content = file.read_bytes()
    assert content.count(b"7777") == 1
    file.write_bytes(content.replace(b"7777", number))
    found = read_identity(file)
    assert found is not None and (found.series, found.number) == (SERIES_UID, read)


def test_a_segmentation_is_no_image_and_does_not_disturb_one_beside_it(tmp_path: Path) -> None:
    images = write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    seg = write_seg(images / "zz.dcm", MASKS, AFFINE)
    assert_phantom(images, phantom(SHAPE), AFFINE)
    assert_labels(seg, images)
    with pytest.raises(VolumeError, match="expected an image, got segments or contours"):
        read_image(seg)


def test_a_label_map_is_read_again_when_its_images_change(tmp_path: Path) -> None:
    images = write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    seg = write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE)
    read_label(seg)
    for file in sorted(images.iterdir())[:2]:
        file.unlink()
    with pytest.raises(VolumeError):
        read_label(seg)


def test_contours_inside_of_others_are_holes_and_directions_do_not_count(tmp_path: Path) -> None:
    images = write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    ring = np.zeros(SHAPE, bool)
    ring[1:7, 1:8, 1:5] = True
    ring[3:5, 3:6, 1:5] = False
    contours = [c[::-1] if n % 2 else c for n, c in enumerate(contours_of(ring, AFFINE))]
    assert len(contours) == 8
    assert_labels(write_rtstruct(tmp_path / "rt" / "a.dcm", {"ring": contours}), images, ring * 1)


def test_a_copy_of_a_contour_does_not_erase_it_wherever_it_begins(tmp_path: Path) -> None:
    def with_copies(header: Any) -> None:
        from copy import deepcopy

        region = header.ROIContourSequence[0]
        contours = list(region.ContourSequence)
        for number, contour in enumerate(list(contours)):
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            copies = (np.roll(points, number + 1, axis=0), points[::-1], np.concatenate([points, points[:1]]))
            copy = deepcopy(contour)
            copy.ContourData = [round(float(v), 8) for v in copies[number % 3].ravel()]
            copy.NumberOfContourPoints = len(copies[number % 3])
            contours.append(copy)
        region.ContourSequence = contours

    file = write_square(tmp_path, with_copies)
    assert int(read_label(file).data.sum()) == 4 * 4 * 7
    assert read_header(file).warnings == ("copies of contours of liver are left out",)


def test_overlapping_segments_are_named_and_explained(tmp_path: Path) -> None:
    write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    body = {"BODY": np.ones(SHAPE, bool), **MASKS}
    message = refused(write_seg(tmp_path / "seg" / "a.dcm", body, AFFINE))
    assert f"BODY and liver ({int(MASKS['liver'].sum())} voxels)" in message and "--overlap later" in message
    regions = {name: contours_of(mask, AFFINE) for name, mask in body.items()}
    assert "BODY and tumour" in refused(write_rtstruct(tmp_path / "rt" / "a.dcm", regions))


def _delete(*names: str) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        for name in names:
            delattr(header, name)

    return change


def _set(**values: Any) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        for name, value in values.items():
            setattr(header, name, value)

    return change


def _frame(number: int, group: str, element: str, value: Any) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        setattr(header.PerFrameFunctionalGroupsSequence[number][group][0], element, value)

    return change


def _moved(header: Any) -> None:
    for frame in header.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(v) + 0.4 for v in place.ImagePositionPatient]


def _outside(header: Any) -> None:
    axis = AFFINE[:3, 2] * [-1, -1, 1]
    place = header.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    place.ImagePositionPatient = [round(float(v), 6) for v in np.array(place.ImagePositionPatient, float) + 3 * axis]


def _mirrored(header: Any) -> None:
    """Rows run the other way, from the same corner."""
    plane = header.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    row, column = np.array(plane.ImageOrientationPatient, float).reshape(2, 3)
    plane.ImageOrientationPatient = [round(float(v), 8) for v in (*-row, *column)]


def _other_slices(header: Any) -> None:
    """Every second slice of the images, as a segmentation of a thicker series has."""
    step = AFFINE[:3, 2] * [-1, -1, 1]
    for number, frame in enumerate(header.PerFrameFunctionalGroupsSequence):
        place = frame.PlanePositionSequence[0]
        position = np.array(place.ImagePositionPatient, float) + 0.5 * step * (number % 2)
        place.ImagePositionPatient = [round(float(v), 8) for v in position]


def _pixel_spacing(header: Any) -> None:
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [3, 3]


def _same_number(header: Any) -> None:
    header.SegmentSequence[1].SegmentNumber = 1


def _wrong_size(header: Any) -> None:
    header.Rows, header.Columns = header.Columns, header.Rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_delete("ReferencedSeriesSequence"), "expected the UID of the images"),
        (_set(FrameOfReferenceUID="9.9"), "frame of reference"),
        (_delete("SegmentSequence"), "at least one segment"),
        (_same_number, "every segment once, got number 1 for liver and tumour"),
        (_wrong_size, "expected frames of 8x9 pixels"),
        (_pixel_spacing, "with pixels of 3 x 3 mm"),
        (_moved, "on the voxels of"),
        (_mirrored, "moved along its rows or columns"),
        (_other_slices, "between slices"),
        (_outside, "slices are missing"),
        (_set(SegmentationType="WHATEVER"), "BINARY or LABELMAP"),
        (_delete("PerFrameFunctionalGroupsSequence"), "position for each of"),
        (_frame(3, "SegmentIdentificationSequence", "ReferencedSegmentNumber", 9), "got 9 in frame 4"),
        (_frame(1, "PlanePositionSequence", "ImagePositionPatient", ["nan", 0, 0]), "finite numbers"),
        (_set(PixelData=b"\1\2"), "of pixels, got"),
        (_delete("PixelData"), "pixels"),
        (lambda h: setattr(h, "PixelData", h.PixelData + b"\1\2"), "bytes of pixels for 11 frames"),
        (_set(FrameOfReferenceUID="9.9\n9"), "got another one (9.9 9)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_faults_of_a_segmentation_are_refused_by_name(
    tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    write_case(tmp_path, phantom(SHAPE), AFFINE)
    file = write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE, options=SegOptions(change=change))
    assert reason in refused(file)


def test_a_frame_that_is_there_twice_and_fractions_are_refused(tmp_path: Path) -> None:
    def twice(header: Any) -> None:
        first, second = header.PerFrameFunctionalGroupsSequence[:2]
        second.PlanePositionSequence = first.PlanePositionSequence

    write_case(tmp_path, phantom(SHAPE), AFFINE)
    file = write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE, options=SegOptions(change=twice))
    assert "one frame for each segment and place" in refused(file)
    half = SegOptions("FRACTIONAL", change=_set(MaximumFractionalValue=200))
    assert "got fractions such as 100 of 200" in refused(
        write_seg(tmp_path / "half" / "a.dcm", MASKS, AFFINE, options=half)
    )


def test_missing_images_and_slices_are_refused(tmp_path: Path) -> None:
    images = write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    lost = write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE, uid="1.2.3.5")
    assert "(1.2.3.5) in its folder or one near it, found none among" in refused(lost)

    def with_instances(header: Any) -> None:
        items = [type(header.ReferencedSeriesSequence[0])() for _ in range(SHAPE[2])]
        for number, item in enumerate(items, start=1):
            item.ReferencedSOPInstanceUID = f"{SERIES_UID}.{number}"
        header.ReferencedSeriesSequence[0].ReferencedInstanceSequence = items

    seg = write_seg(tmp_path / "seg2" / "a.dcm", MASKS, AFFINE, options=SegOptions(change=with_instances))
    assert_labels(seg, images)
    next(f for f in images.iterdir() if f.name.endswith("-7.dcm")).unlink()
    assert "the 7 slices that it refers to" in refused(seg) and "1 slice missing" in refused(seg)


def test_a_file_that_is_cut_off_is_refused_wherever_that_is(tmp_path: Path) -> None:
    write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    seg = write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE)
    regions = {name: contours_of(mask, AFFINE) for name, mask in MASKS.items()}
    for file in (seg, write_rtstruct(tmp_path / "rt" / "a.dcm", regions)):
        content = file.read_bytes()
        for share in (0.3, 0.6, 0.99):
            file.write_bytes(content[: int(share * len(content))])
            refused(file)


def _contour(number: int, change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda header: change(header.ROIContourSequence[0].ContourSequence[number])


def _along_slices(slices: float, tilt: float = 0.0) -> Callable[[Any], None]:
    """Move a contour along the slices, its first point by so much more."""

    def change(contour: Any) -> None:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        step = AFFINE[:3, 2] * [-1, -1, 1]
        points += slices * step
        points[0] += tilt * step
        contour.ContourData = [round(float(v), 8) for v in points.ravel()]

    return change


def _remove_reference(header: Any) -> None:
    del header.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence


def _region_twice(header: Any) -> None:
    header.ROIContourSequence = [*header.ROIContourSequence, header.ROIContourSequence[0]]


def _other_slice(header: Any) -> None:
    item = type(header.ROIContourSequence[0])()
    item.ReferencedSOPInstanceUID = f"{SERIES_UID}.7"
    header.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [item]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_remove_reference, "expected the UID of the images"),
        (lambda h: setattr(h.StructureSetROISequence[0], "ReferencedFrameOfReferenceUID", "9.9"), "frame of reference"),
        (_region_twice, "got region 0 twice"),
        (_delete("StructureSetROISequence"), "at least one segment"),
        (_other_slice, "refers to another slice"),
        (_contour(2, _along_slices(0, 0.6)), "contour 3 of liver, which spans 0.6 slices"),
        (_contour(6, _along_slices(0.4)), "slices are missing"),
        (_contour(6, _along_slices(1)), "slices are missing"),
        (_contour(0, _set(NumberOfContourPoints=99)), "expected 99 points"),
        (_contour(1, _delete("ContourGeometricType")), "contour 2 of liver: expected the type CLOSED_PLANAR"),
        (_contour(1, _set(ContourGeometricType="CLOSED")), "got CLOSED: whether it is to be filled"),
        (_contour(0, lambda c: setattr(c, "ContourData", list(c.ContourData)[:-1])), "three finite numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_faults_of_contours_are_refused_by_name(tmp_path: Path, change: Callable[[Any], None], reason: str) -> None:
    assert reason in refused(write_square(tmp_path, change))


def test_contours_between_slices_are_refused_unless_the_slices_have_their_own(tmp_path: Path) -> None:
    def all_between(header: Any) -> None:
        del header.ROIContourSequence[0].ContourSequence[6]
        for contour in header.ROIContourSequence[0].ContourSequence:
            _along_slices(0.5)(contour)

    assert "6 contours between slices" in refused(write_square(tmp_path / "a", all_between))

    def one_more(header: Any) -> None:
        from copy import deepcopy

        contours = header.ROIContourSequence[0].ContourSequence
        extra = deepcopy(contours[2])
        _along_slices(0.5)(extra)
        header.ROIContourSequence[0].ContourSequence = [*contours, extra]

    file = write_square(tmp_path / "b", one_more)
    assert any("1 contour of liver lie between slices" in w for w in read_header(file).warnings)
    assert int(read_label(file).data.sum()) == 4 * 4 * 7


def test_what_contours_leave_open_is_warned_of(tmp_path: Path) -> None:
    def change(header: Any) -> None:
        from copy import deepcopy

        region = header.ROIContourSequence[0]
        contours = list(region.ContourSequence)[::2]
        moved = deepcopy(contours[0])
        points = np.array(moved.ContourData, float).reshape(-1, 3) + 2 * AFFINE[:3, 0] * [-1, -1, 1]
        moved.ContourData = [round(float(v), 8) for v in points.ravel()]
        moved.NumberOfContourPoints = len(points)
        open_one = deepcopy(contours[0])
        open_one.ContourGeometricType = "OPEN_PLANAR"
        region.ContourSequence = [*contours, moved, deepcopy(contours[1]), open_one]

    header = read_header(write_square(tmp_path, change))
    assert [w.split(":")[0] for w in header.warnings] == [
        "copies of contours of liver are left out",
        "contours of liver overlap in part in 1 slice",
        "liver has contours on every 2 slices only",
    ]
    assert header.notes[0] == "1 contour of liver not filled: OPEN_PLANAR"
