"""Files that are no images under the name of one: each is named as what it is, with a remedy."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.file_kinds import identify, kind_of_format
from core.imaging.image_files import FOREIGN_FORMATS
from core.imaging.volume import read_image
from tests.support.volume_files import voxels, write_analyze


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.nii", b"x" * 400)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("image.nii"), io.BytesIO())
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4, 4)))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
KINDS = {
    "Git LFS pointer; fetch its content with `git lfs pull`": LFS,
    "git-annex pointer; .*git annex get": b"/annex/objects/MD5E-s123--0123456789abcdef.nii.gz\n",
    "git-annex pointer; .*datalad get": b"../.git/annex/objects/Wk/8p/MD5E-s1--9e.nii.gz/MD5E-s1--9e.nii.gz",
    r"web page \(HTML\)": b"\xef\xbb\xbf\n<!-- saved -->\n<!DOCTYPE html>\n<html><body>Please log in</body></html>",
    r"a web page \(HTML\)": b"<html><head><title>404</title></head></html>",
    "an XML text": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "a JSON text": b'{"message": "Not Found", "status": "404"}',
    r"a MetaImage; name it \.mha": b"ObjectType = Image\nNDims = 3\nBinaryData = True\n" + bytes(500),
    "a MetaImage": b"NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = a.raw\n",
    "an NRRD file": b"NRRD0004\n# Complete NRRD file format specification\ntype: short\n",
    "a DICOM file; .*dcm2niix": bytes(128) + b"DICM" + bytes(300),
    "a DICOM file; name it .dcm": b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(400),
    "a FreeSurfer MGH file": struct.pack(">7i", 1, 256, 256, 256, 1, 0, 0) + bytes(300),
    "a ZIP archive": zipped(),
    "a tar archive": tarred(),
    "gzip data inside gzip": gzip.compress(gzip.compress(b"image" * 100)),
    "bzip2 data": b"BZh91AY&SY" + bytes(400),
    "xz data": b"\xfd7zXZ\0" + bytes(400),
    "a NumPy array": npy(),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(400),
    "a TIFF file": b"II*\0" + bytes(400),
    "a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(400),
    "an empty file; the file is cut off": b"",
    "only zero bytes": bytes(1000),
    "a text file": b"subject,age\n1,30\n2,31\n",
    "companion file of macOS": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100),
}


@pytest.mark.parametrize("expected", KINDS)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_file_of_another_kind_is_named(tmp_path: Path, expected: str, name: str, compressed: bool) -> None:
    content = KINDS[expected]
    (tmp_path / name).write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(VolumeError, match=f"got (a )?{expected}") as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: expected") and "\n" not in str(caught.value)


def test_file_with_another_ending_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.vtk").write_bytes(b"# vtk DataFile Version 3.0\n")
    with pytest.raises(
        VolumeError, match=r"ending in \.nii.*got another kind of file, a VTK file; convert it to NIfTI"
    ):
        read_image(tmp_path / "a.vtk")


@pytest.mark.parametrize("name", ["a.mgz", "a.nrrd", "a.mha", "a.dcm"])
def test_a_pointer_under_the_name_of_another_format_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LFS)
    with pytest.raises(VolumeError, match="got a Git LFS pointer; fetch its content"):
        read_image(tmp_path / name)


def test_voxels_of_a_pair_that_are_a_pointer_are_named(tmp_path: Path) -> None:
    path = write_analyze(tmp_path / "a", voxels())
    path.with_suffix(".img").write_bytes(LFS)
    with pytest.raises(VolumeError, match=r"a\.img: expected the voxels of an image, got a Git LFS pointer"):
        read_image(path)


def test_dangling_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to("../.git/annex/objects/Wk/8p/MD5E-s1--9e.nii.gz/MD5E-s1--9e.nii.gz")
    with pytest.raises(VolumeError, match=r"got a git-annex link whose content is not here; .*`git annex get`"):
        read_image(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to("/nowhere/b.nii.gz")
    with pytest.raises(VolumeError, match=r"got a link to /nowhere/b\.nii\.gz, which does not exist"):
        read_image(tmp_path / "b.nii.gz")
    path = write_analyze(tmp_path / "c", voxels())
    path.with_suffix(".img").unlink()
    path.with_suffix(".img").symlink_to("../.git/annex/objects/x/y/z")
    with pytest.raises(VolumeError, match="git-annex link"):
        read_image(path)


def test_voxels_are_no_kind_of_file() -> None:
    rng = np.random.default_rng(0)
    assert all(identify(rng.integers(1, 255, 1024).astype(np.uint8).tobytes()) is None for _ in range(200))
    assert identify(b"\x07\x80" * 512) is None


def test_every_format_that_is_decoded_has_a_name() -> None:
    names = {format: kind_of_format(format).name for format in FOREIGN_FORMATS}
    assert names["mgh"] == "a FreeSurfer MGH file" and len(set(names.values())) == len(FOREIGN_FORMATS)
