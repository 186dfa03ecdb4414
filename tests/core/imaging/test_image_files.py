"""Which files are one image: pairs in every spelling that is read, text headers, DICOM series."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.imaging.headers import read_header
from core.imaging.image_files import files_of, holds_dicom_images, is_second_half, label_object, partner_of
from tests.support.dicom_labels import write_seg
from tests.support.foreign_volumes import oblique_affine, phantom, write_metaimage, write_nrrd, write_series
from tests.support.volume_files import write_analyze

PAIRS = [
    ("a.hdr", "a.img"), ("A.HDR", "A.IMG"), ("a.hdr", "a.IMG"), ("a.hdr.gz", "a.img"), ("a.hdr", "a.img.gz"),
    ("a.HDR.GZ", "a.IMG.GZ"), ("a.b.Hdr", "a.b.Img"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "voxels"), PAIRS)
def test_both_files_of_a_pair_find_each_other_as_they_are_read(tmp_path: Path, header: str, voxels: str) -> None:
    written = write_analyze(tmp_path / "written.hdr", phantom())
    first, second = written.rename(tmp_path / header), written.with_suffix(".img").rename(tmp_path / voxels)
    for path, other in ((first, second), (second, first)):
        assert (partner_of(path), files_of(path)) == (other, (path, other))
        assert read_header(path).data_path == second
    names = {header, voxels}
    assert [is_second_half(name, names) for name in (header, voxels)] == [False, True]
    assert not is_second_half(voxels, {voxels}), "without its header it stands for itself"


def test_files_that_a_header_names_and_the_files_of_a_series_belong_to_it(tmp_path: Path) -> None:
    for write, name in ((write_nrrd, "a.nhdr"), (write_metaimage, "b.mhd")):
        file = write(tmp_path / name, phantom(), oblique_affine())
        assert files_of(file) == (file, file.with_suffix(".raw"))
    renamed = (tmp_path / "a.nhdr").rename(tmp_path / "c.nrrd")
    assert files_of(renamed) == (renamed, tmp_path / "a.raw"), "the header says so, not the suffix"
    series = write_series(tmp_path / "series", phantom(), oblique_affine())
    slices = sorted(series.iterdir())
    assert len(slices) == phantom().shape[2]
    assert files_of(series) == (series, *slices)
    assert set(files_of(slices[2])) == set(slices), "one of its files is read as the whole series"


def test_a_folder_of_slices_is_told_from_one_of_segmentations_by_its_files(tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", phantom(), oblique_affine())
    seg = write_seg(tmp_path / "seg" / "a.dcm", {"liver": phantom() > 0}, oblique_affine())
    unnamed = [file.rename(file.with_suffix("")) for file in series.iterdir()]
    assert holds_dicom_images(series, [file.name for file in unnamed])
    assert not holds_dicom_images(seg.parent, [seg.name])
    assert not holds_dicom_images(tmp_path, ["README", "a.nii"])
    assert (label_object(seg), label_object(seg.parent), label_object(series)) == (seg, seg, None)


@pytest.mark.parametrize("name", ["missing.hdr", "missing.mhd", "missing.dcm", "a.nii.gz", "a.txt", "damaged.nhdr"])
def test_an_image_without_further_files_is_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "damaged.nhdr").write_bytes(b"nothing")
    assert files_of(tmp_path / "empty" / name) == (tmp_path / "empty" / name,)
    assert partner_of(tmp_path / name) is None
    if not name.endswith(".dcm"):
        assert files_of(tmp_path / name) == (tmp_path / name,)
