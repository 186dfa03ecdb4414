"""Label maps that refer to several series: to which of them they belong, and what is refused because that is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.dicom_rtstruct import read_contours
from core.imaging.dicom_seg import read_segmentation
from tests.support.dicom_labels import FRAME, SegOptions, contours_of, write_case, write_rtstruct, write_seg
from tests.support.foreign_volumes import oblique_affine, phantom

A, B = "1.1", "1.2"
SHAPE, AFFINE = (5, 6, 4), oblique_affine()
LONGER = (5, 6, 6)  # the same voxels, with a slice more at either end


def moved(slices: float) -> np.ndarray:
    """The grid, so many slices later."""
    result = AFFINE.copy()
    result[:3, 3] += slices * AFFINE[:3, 2]
    return result


def mask_of(slices: int) -> np.ndarray:
    """Voxels of a segment, a different number in each slice."""
    mask = np.zeros((*SHAPE[:2], slices), bool)
    for k in range(slices):
        mask[1:3, 1 : 3 + k, k] = True
    return mask


MASK = mask_of(4)


def write_two(
    folder: Path, shape: Sequence[int] = LONGER, affine: np.ndarray | None = None, frame: str = FRAME
) -> None:
    """Series A, on whose slices the segments lie, and series B, by default longer by a slice at either end."""
    write_case(folder / "a", phantom(SHAPE), AFFINE, A, SeriesDescription="short")
    affine = moved(-1) if affine is None else affine
    write_case(folder / "b", phantom(shape), affine, B, SeriesDescription="long", FrameOfReferenceUID=frame)


def item(**elements: Any) -> Any:
    from pydicom.dataset import Dataset

    result = Dataset()
    for name, value in elements.items():
        setattr(result, name, value)
    return result


def images(*uids: str) -> list[Any]:
    return [item(ReferencedSOPInstanceUID=uid) for uid in uids]


def refers_to(*series: str, frames: Sequence[Sequence[str]] = (), lists: bool = False) -> SegOptions:
    """Options of a segmentation that names series, and the images of each of its frames.

    Parameters
    ----------
    frames : sequence of sequence of str. UIDs of the images of each frame.
    lists : bool. Whether all images of each series are listed with it.
    """

    def change(header: Any) -> None:
        header.ReferencedSeriesSequence = [item(SeriesInstanceUID=uid) for uid in series]
        if lists:
            for entry in header.ReferencedSeriesSequence:
                count = {A: SHAPE[2], B: LONGER[2]}[entry.SeriesInstanceUID]
                uids = [f"{entry.SeriesInstanceUID}.{n + 1}" for n in range(count)]
                entry.ReferencedInstanceSequence = images(*uids)
        for group, sources in zip(header.PerFrameFunctionalGroupsSequence, frames, strict=False):
            group.DerivationImageSequence = [item(SourceImageSequence=images(*sources))]

    return SegOptions(change=change)


def of_a(k: int) -> str:
    return f"{A}.{k + 1}"


def of_b(k: int) -> str:
    """The image of series B at a slice of series A."""
    return f"{B}.{k + 2}"


def voxels_per_slice(file: Path, reader: Callable[..., Any] = read_segmentation) -> list[int]:
    """Labelled voxels of each slice, in the order of the slices of the series."""
    return [int(n) for n in (reader(file, lambda nbytes: None)[1][0] > 0).sum(axis=(1, 2))]


def refused(file: Path, reader: Callable[..., Any] = read_segmentation) -> str:
    with pytest.raises(VolumeError) as caught:
        reader(file, lambda nbytes: None)
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and "\n" not in message
    return message


ON_A, ON_B = [4, 6, 8, 10], [0, 4, 6, 8, 10, 0]


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("series", [(A, B), (B, A)])
def test_the_images_that_all_frames_state_decide(tmp_path: Path, series: Sequence[str], lists: bool) -> None:
    write_two(tmp_path / "d")
    for name, of, expected in (("on_a", of_a, ON_A), ("on_b", of_b, ON_B)):
        options = refers_to(*series, frames=[[of(k)] for k in range(4)], lists=lists)
        file = write_seg(tmp_path / "d" / name / "seg.dcm", {"liver": MASK}, AFFINE, options=options)
        image = read_segmentation(file, lambda nbytes: None)[0]
        assert voxels_per_slice(file) == expected and image.segments is not None
        assert image.segments.series == (A if name == "on_a" else B)


def test_images_of_both_series_for_each_frame_leave_it_to_the_place(tmp_path: Path) -> None:
    """As where two sequences were segmented together; only one of them has the voxels of the segmentation."""
    write_two(tmp_path / "d", SHAPE, moved(0.5))
    options = refers_to(B, A, frames=[[f"{B}.{k + 1}", of_a(k)] for k in range(4)])
    assert voxels_per_slice(write_seg(tmp_path / "d" / "seg.dcm", {"liver": MASK}, AFFINE, options=options)) == ON_A


def test_without_images_of_frames_the_only_series_on_which_all_lie_is_taken(tmp_path: Path) -> None:
    """The first frames lie on both; B ends before the last one."""
    write_two(tmp_path / "d", (5, 6, 3), AFFINE)
    file = write_seg(tmp_path / "d" / "seg.dcm", {"liver": MASK}, AFFINE, options=refers_to(B, A))
    assert voxels_per_slice(file) == ON_A


def test_segments_on_two_series_are_refused_with_their_names(tmp_path: Path) -> None:
    write_two(tmp_path / "d")
    message = refused(write_seg(tmp_path / "d" / "seg.dcm", {"liver": MASK}, AFFINE, options=refers_to(A, B)))
    assert f"'short' in {tmp_path / 'd' / 'a'} (5x6x4 voxels" in message and "'long' in" in message
    assert "the series is ambiguous" in message
    contours = write_rtstruct(tmp_path / "d" / "rt.dcm", {"liver": contours_of(MASK, AFFINE)}, change=names_both())
    message = refused(contours, read_contours)
    assert "'short' in" in message and "'long' in" in message and "the series is ambiguous" in message


def test_series_with_the_same_voxels_are_as_good_as_each_other(tmp_path: Path) -> None:
    write_two(tmp_path / "d", SHAPE, AFFINE)
    mixed = [[of_a(0)], [f"{B}.2"], [of_a(2)], [f"{B}.4"]]
    for name, options in (("none", refers_to(B, A)), ("mixed", refers_to(B, A, frames=mixed))):
        file = write_seg(tmp_path / "d" / name / "seg.dcm", {"liver": MASK}, AFFINE, options=options)
        image = read_segmentation(file, lambda nbytes: None)[0]
        assert voxels_per_slice(file) == ON_A
        assert image.segments is not None and image.segments.series == B, "the first that is named"


def test_the_same_positions_in_other_coordinates_are_not_the_same_voxels(tmp_path: Path) -> None:
    """The segmentation states no frame of reference: in which coordinates its positions are is open."""
    write_two(tmp_path / "d", SHAPE, AFFINE, frame="9.9")
    options = refers_to(A, B)

    def change(header: Any) -> None:
        options.change(header)
        del header.FrameOfReferenceUID

    file = write_seg(tmp_path / "d" / "seg.dcm", {"liver": MASK}, AFFINE, options=SegOptions(change=change))
    assert "the series is ambiguous" in refused(file)
    stated = write_seg(tmp_path / "d" / "2" / "seg.dcm", {"liver": MASK}, AFFINE, options=options)
    assert read_segmentation(stated, lambda nbytes: None)[0].segments.series == A  # type: ignore[union-attr]


def test_frames_of_each_of_two_series_are_refused(tmp_path: Path) -> None:
    write_two(tmp_path / "d")
    options = refers_to(A, B, frames=[[of_a(0)], [of_a(1)], [of_b(2)], [of_b(3)]])
    message = refused(write_seg(tmp_path / "d" / "seg.dcm", {"liver": MASK}, AFFINE, options=options))
    assert "images of one series, got some of each of 'short' in" in message and "'long' in" in message


def test_segments_on_none_of_the_series_are_refused_with_a_reason_for_each(tmp_path: Path) -> None:
    write_two(tmp_path / "d", SHAPE, moved(0.5))
    file = write_seg(tmp_path / "d" / "seg.dcm", {"liver": MASK}, moved(0.25), options=refers_to(A, B))
    message = refused(file)
    assert "one of the 2 series" in message and message.count("between slices") == 2
    assert str(tmp_path / "d" / "a") in message and str(tmp_path / "d" / "b") in message


def test_a_series_further_away_is_looked_for_where_frames_state_its_images(tmp_path: Path) -> None:
    """The file lies in the folder of the other series that it refers to."""
    write_two(tmp_path / "d")
    for lists in (False, True):
        options = refers_to(A, B, frames=[[of_b(k)] for k in range(4)], lists=lists)
        file = write_seg(tmp_path / "d" / "a" / "zz.dcm", {"liver": MASK}, AFFINE, options=options)
        assert voxels_per_slice(file) == ON_B


def names_both(of: Callable[[int], str] | None = None) -> Callable[[Any], None]:
    """Contours that refer to both series, and each to the image of its slice."""

    def change(header: Any) -> None:
        study = header.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        study.RTReferencedSeriesSequence = [item(SeriesInstanceUID=uid) for uid in (A, B)]
        if of is not None:
            for k, contour in enumerate(header.ROIContourSequence[0].ContourSequence):
                contour.ContourImageSequence = images(of(k))

    return change


@pytest.mark.parametrize(("of", "expected"), [(of_a, ON_A), (of_b, ON_B)])
def test_the_images_of_contours_decide(tmp_path: Path, of: Callable[[int], str], expected: list[int]) -> None:
    write_two(tmp_path / "d")
    contours = {"liver": contours_of(MASK, AFFINE)}
    assert len(contours["liver"]) == 4
    file = write_rtstruct(tmp_path / "d" / "rt.dcm", contours, change=names_both(of))
    assert voxels_per_slice(file, read_contours) == expected
