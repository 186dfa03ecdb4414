"""The search for the images of DICOM label maps: which it finds, and where it ends."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging import dicom_planes, dicom_search
from core.imaging.dicom_index import INDEX_FILE, DicomSeries, Identity, read_identity, write_index
from core.imaging.dicom_links import Reference, read_reference
from core.imaging.dicom_planes import find_planes
from core.imaging.dicom_search import find_images
from core.imaging.dicom_seg import read_segmentation
from core.imaging.image_files import dicom_class, frame_count, label_object
from core.imaging.volume import read_label
from tests.support.dicom_labels import SEG, write_case, write_seg
from tests.support.foreign_volumes import oblique_affine, phantom, write_multiframe

SHAPE, AFFINE = (5, 6, 4), oblique_affine()
MASKS = {"liver": np.ones(SHAPE, bool)}


def of_series(*uids: str) -> Reference:
    return Reference({uid: frozenset() for uid in uids}, frozenset(), ())


def first_of(images: Mapping[str, Path]) -> set[Path]:
    """The file of each series by which it is found."""
    return {min(folder.iterdir()) for folder in images.values()}


def count_calls(patch: pytest.MonkeyPatch, module: ModuleType, name: str, counts: Counter[Path]) -> None:
    """Count the calls of a function by its first argument, a path."""
    function = getattr(module, name)

    def counted(path: Path, *arguments: Any) -> Any:
        counts[path] += 1
        return function(path, *arguments)

    patch.setattr(module, name, counted)


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


def test_many_label_maps_of_a_set_read_each_file_of_the_images_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the headers of the slices; and the folders are listed once, unless they change."""
    images = {uid: write_case(tmp_path / "im" / uid, phantom(SHAPE), AFFINE, uid) for uid in ("1.1", "1.2", "1.3")}
    segs = [write_seg(tmp_path / "seg" / f"{uid}.dcm", MASKS, AFFINE, uid) for uid in images]
    monkeypatch.setattr(dicom_search, "SETTLED_S", 0.0)  # what was written just now counts as old
    opened: Counter[Path] = Counter()
    listed: Counter[Path] = Counter()
    count_calls(monkeypatch, dicom_search, "read_identity", opened)
    count_calls(monkeypatch, dicom_search, "_read_names", listed)
    count_calls(monkeypatch, dicom_planes, "_read_header", opened)
    for seg in [*segs, *segs]:
        read_segmentation(seg, lambda nbytes: None)
    files = [file for folder in images.values() for file in folder.iterdir()]
    assert {file: opened[file] for file in files} == {file: 1 + (file in first_of(images)) for file in files}
    assert set(listed.values()) == {1} and images["1.3"] in listed


def test_images_that_take_the_place_of_others_are_read_anew(tmp_path: Path) -> None:
    """Of the same names, sizes and times, as slices of two series have."""
    for uid in ("1.1", "1.2"):
        for file in write_case(tmp_path / uid, phantom(SHAPE), AFFINE, uid).iterdir():
            os.utime(file, (1e9, 1e9))
    seg = write_seg(tmp_path / "seg.dcm", MASKS, AFFINE, "1.2")
    for _ in range(2):
        found = find_images(seg, of_series("1.2"))["1.2"]
        assert found.parent.name == "1.2" and find_planes(found)[0][0].series == "1.2"
    (tmp_path / "1.1").rename(tmp_path / "x")
    (tmp_path / "1.2").rename(tmp_path / "1.1")
    (tmp_path / "x").rename(tmp_path / "1.2")
    found = find_images(seg, of_series("1.2"))["1.2"]
    assert found.parent.name == "1.1" and {p.series for p in find_planes(found)[0]} == {"1.2"}
    assert {p.series for p in find_planes(tmp_path / "1.2")[0]} == {"1.1"}


def test_a_series_that_is_added_later_is_found_also_in_a_folder_that_was_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path / "all" / "im" / "1.1", phantom(SHAPE), AFFINE, "1.1")
    seg = write_seg(tmp_path / "all" / "seg" / "a.dcm", MASKS, AFFINE, "1.2")
    monkeypatch.setattr(dicom_search, "SETTLED_S", 0.0)
    for _ in range(2):
        with pytest.raises(VolumeError, match="expected the images"):
            find_images(seg, of_series("1.2"))
    images = write_case(tmp_path / "all" / "im" / "1.2", phantom(SHAPE), AFFINE, "1.2")
    assert find_images(seg, of_series("1.2"))["1.2"].parent == images


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


def test_slices_of_a_series_are_counted_in_files_of_many_and_copies_once(tmp_path: Path) -> None:
    enhanced = write_multiframe(tmp_path / "a.dcm", phantom((4, 4, 12)), AFFINE).rename(tmp_path / "enhanced.dcm")
    folder = write_case(tmp_path / "b", phantom(SHAPE), AFFINE, "1.1", SeriesDescription="T1", SeriesNumber=7)
    for copy in ("copy-1.dcm", "copy-2.dcm"):
        (folder / copy).write_bytes(min(folder.iterdir()).read_bytes())
    (folder / "enhanced.dcm").write_bytes(enhanced.read_bytes())
    write_index(folder, tmp_path)
    found = {s["uid"]: s for s in json.loads((tmp_path / INDEX_FILE).read_text())["series"]}
    assert {uid: (s["files"], s["slices"]) for uid, s in found.items()} == {"1.1": (6, 4), "1.2.3.4": (1, 12)}
    titles = {uid: DicomSeries(**s).title for uid, s in found.items()}
    assert titles == {"1.1": "MR 7 T1 · 4 slices", "1.2.3.4": "MR phantom · 12 slices"}


def test_frames_are_counted_by_the_header_and_no_more_than_the_file_holds(tmp_path: Path) -> None:
    file = write_multiframe(tmp_path / "a.dcm", phantom((4, 4, 12)), AFFINE)
    assert frame_count(file) == 12 and frame_count(tmp_path) == 1
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\x28\0\x08\0IS\x02\x0012", b"\x28\0\x08\0IS\x06\x00999999"))
    assert frame_count(file) == file.stat().st_size // 64
    file.write_bytes(b"no DICOM \x28\0\x08\0IS\x02\x0012")
    assert frame_count(file) == 1
