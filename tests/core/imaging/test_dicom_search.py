"""The search for the images of DICOM label maps: which it finds, and where it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging import dicom_planes, dicom_search
from core.imaging.dicom_index import Identity, read_identity, write_index
from core.imaging.dicom_links import Reference, read_reference
from core.imaging.dicom_planes import find_planes
from core.imaging.dicom_search import find_images
from core.imaging.image_files import dicom_class, frame_count, label_object
from core.imaging.volume import read_label
from tests.support.dicom_labels import SEG, write_case, write_seg
from tests.support.foreign_volumes import oblique_affine, phantom, write_multiframe

SHAPE, AFFINE = (5, 6, 4), oblique_affine()
MASKS = {"liver": np.ones(SHAPE, bool)}


def of_series(*uids: str) -> Reference:
    return Reference({uid: frozenset() for uid in uids}, frozenset(), ())


def write_others(folder: Path, count: int, suffix: str = ".dcm") -> None:
    """Files that are named as DICOM files, or have no suffix, and are none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:05d}{suffix}").write_bytes(b"nothing")


def test_the_nearest_images_are_found_and_each_series_once(tmp_path: Path) -> None:
    file = tmp_path / "p1" / "labels" / "seg.dcm"
    for folder, uid in (("p1/a", "1.1"), ("p1/b", "1.2"), ("p2/a", "1.1"), ("p2/c", "1.3")):
        write_case(tmp_path / folder, phantom(SHAPE), AFFINE, uid)
    write_seg(file, MASKS, AFFINE, "1.2")
    found = find_images(file, of_series("1.2", "1.1"))
    assert list(found) == ["1.2", "1.1"]
    assert [path.parent for path in found.values()] == [tmp_path / "p1" / "b", tmp_path / "p1" / "a"]
    one = Reference({}, frozenset({"1.3.2"}), ())
    assert [path.parent.name for path in find_images(file, one).values()] == ["c"], "by the UID of a single image"
    with pytest.raises(VolumeError) as caught:
        find_images(file, of_series("1.9"))
    assert "among 17 files that may be DICOM" in str(caught.value), "each is read once"


def test_images_in_a_folder_of_several_series_are_found(tmp_path: Path) -> None:
    for uid in ("1.1", "1.2"):
        write_case(tmp_path / "all" / uid, phantom(SHAPE), AFFINE, uid)
    for file in [*(tmp_path / "all").rglob("*.dcm")]:
        file.rename(tmp_path / "all" / f"{file.parent.name}-{file.name}")
    file = write_seg(tmp_path / "seg.dcm", MASKS, AFFINE, "1.2")
    assert find_images(file, of_series("1.2"))["1.2"].name.startswith("1.2-")


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_the_search_ends_and_says_what_it_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    opened: list[Path] = []

    def identity(file: Path) -> Identity | None:
        opened.append(file)
        return read_identity(file)

    monkeypatch.setattr(dicom_search, "MAX_READ", 30)
    monkeypatch.setattr(dicom_search, "read_identity", identity)
    file = write_seg(tmp_path / "a" / "b" / "seg.dcm", MASKS, AFFINE, "1.9")
    write_others(tmp_path / "a" / "b", 100, suffix)
    write_others(tmp_path / "a", 100, suffix)
    with pytest.raises(VolumeError) as caught:
        find_images(file, of_series("1.9"))
    message = str(caught.value)
    assert message.startswith(f"{file}: expected the images that it belongs to (1.9)") and "\n" not in message
    assert "none among 30 files that may be DICOM" in message and "where the search ends" in message
    assert message.endswith("put their series into its folder, or one beside it")
    assert len(opened) <= 30


def test_names_that_are_read_are_limited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_search, "MAX_LISTED", 50)
    file = write_seg(tmp_path / "a" / "b" / "seg.dcm", MASKS, AFFINE, "1.9")
    write_others(tmp_path / "a", 200, ".txt")
    with pytest.raises(
        VolumeError, match=r"1 file that may be DICOM, in \d folders? of 50 names, where the search ends"
    ):
        find_images(file, of_series("1.9"))


def test_a_folder_of_other_files_does_not_keep_the_search_from_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other folders are looked into before the rest of a large one."""
    monkeypatch.setattr(dicom_search, "MAX_READ", 300)
    monkeypatch.setattr(dicom_search, "OWN_FILES", 50)
    write_others(tmp_path / "labels", 500)
    file = write_seg(tmp_path / "labels" / "zz.dcm", MASKS, AFFINE, "1.9")
    write_others(tmp_path / "images" / "a", 500)
    images = write_case(tmp_path / "images" / "b", phantom(SHAPE), AFFINE, "1.9")
    assert find_images(file, of_series("1.9"))["1.9"].parent == images


def test_a_folder_of_too_many_files_is_refused_as_series_and_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    write_others(folder, 20, "")
    monkeypatch.setattr(dicom_planes, "MAX_FILES", 10)
    for read in (find_planes, lambda path: write_index(path, tmp_path)):
        with pytest.raises(VolumeError) as caught:
            read(folder)
        assert str(caught.value) == f"{folder}: expected at most 10 files, got 24; put each series into a folder"


def test_the_whole_disk_is_never_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_into: list[Path] = []

    def folders(base: Path, *_: Any) -> Any:
        looked_into.append(base)
        return iter(())

    monkeypatch.setattr(dicom_search, "_folders", folders)
    with pytest.raises(VolumeError, match="expected the images"):
        find_images(Path("/data/seg.dcm"), of_series("1.9"))
    assert looked_into == [Path("/data")]


def test_references_are_read_from_series_frames_and_contours(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    def item(**elements: Any) -> Any:
        result = Dataset()
        for name, value in elements.items():
            setattr(result, name, value)
        return result

    image = item(ReferencedSOPInstanceUID="1.2.7")
    header = item(
        FrameOfReferenceUID="5.5",
        ReferencedSeriesSequence=[
            item(SeriesInstanceUID="1.1"),
            item(SeriesInstanceUID="1.2", ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID="1.2.1")]),
        ],
        PerFrameFunctionalGroupsSequence=[item(DerivationImageSequence=[item(SourceImageSequence=[image])])],
    )
    found = read_reference(header)
    assert (found.series, found.instances) == ({"1.1": frozenset(), "1.2": frozenset({"1.2.1"})}, frozenset({"1.2.7"}))
    assert found.frames_of_reference == ("5.5",) and found.all_instances == {"1.2.1", "1.2.7"}
    assert found.instances_of("1.2") == {"1.2.1"} and not found.instances_of("1.1")
    assert not read_reference(header, of_frames=False).instances
    contours = item(
        ROIContourSequence=[item(ContourSequence=[item(ContourImageSequence=[image])])],
        StructureSetROISequence=[item(ROINumber=1, ReferencedFrameOfReferenceUID="5.6"), item(ROINumber=2)],
    )
    found = read_reference(contours)
    assert (found.series, found.instances, found.frames_of_reference) == ({}, frozenset({"1.2.7"}), ("5.6",))
    assert read_reference(item()).is_empty


@pytest.mark.slow
@pytest.mark.usefixtures("own_decoded_cache")
def test_a_segmentation_without_its_meta_information_is_one(tmp_path: Path) -> None:
    """Older systems write the data set alone; its class stands there too."""
    write_case(tmp_path / "im", phantom(SHAPE), AFFINE)
    file = write_seg(tmp_path / "seg" / "a.dcm", MASKS, AFFINE)
    assert dicom_class(file) == SEG
    file.write_bytes(file.read_bytes()[file.read_bytes().index(b"\x08\0\x16\0") :])
    assert dicom_class(file) == SEG and label_object(file) == file
    with pytest.raises(VolumeError) as caught:
        read_label(file)
    assert "expected an image" not in str(caught.value)


def test_frames_are_counted_by_the_header_and_no_more_than_the_file_holds(tmp_path: Path) -> None:
    file = write_multiframe(tmp_path / "a.dcm", phantom((4, 4, 12)), AFFINE)
    assert frame_count(file) == 12 and frame_count(tmp_path) == 1
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\x28\0\x08\0IS\x02\x0012", b"\x28\0\x08\0IS\x06\x00999999"))
    assert frame_count(file) == file.stat().st_size // 64
    file.write_bytes(b"no DICOM \x28\0\x08\0IS\x02\x0012")
    assert frame_count(file) == 1
