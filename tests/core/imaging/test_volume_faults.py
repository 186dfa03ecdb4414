"""Invalid files: each raises one VolumeError that names the file and the fault."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.volume import read_header, read_image, read_label, write_label
from tests.support.volume_files import label_map, load, patch, voxels, write_analyze, write_nifti


@pytest.fixture
def nii(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "a.nii", voxels())


@pytest.fixture
def gz(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "a.nii.gz", voxels())


def assert_rejected(path: Path, match: str) -> None:
    """Reading the image raises a VolumeError of one line that names the file."""
    with pytest.raises(VolumeError, match=match) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "format", "values", "match"),
    [
        (40, "8h", (3, 0, 7, 5, 1, 1, 1, 1), "every dimension to be at least 1, got 0x7x5"),
        (40, "8h", (3, 6, -7, 5, 1, 1, 1, 1), "at least 1"),
        (40, "8h", (0, 6, 7, 5, 1, 1, 1, 1), "3 or 4 dimensions"),
        (40, "8h", (2, 6, 7, 5, 1, 1, 1, 1), "3-D image"),
        (40, "8h", (5, 6, 7, 5, 2, 3, 1, 1), "5 dimensions"),
        (70, "h", (32,), "complex64"),
        (70, "h", (128,), "RGB"),
        (70, "h", (0,), "unknown type 0"),
        (112, "f", (np.inf,), "scl_slope inf"),
        (116, "f", (-np.inf,), "scl_inter -inf"),
        (108, "f", (np.nan,), "vox_offset nan"),
        (108, "f", (4.0,), "vox_offset 4"),
        (108, "f", (352.5,), "vox_offset 352.5"),
        (280, "4f", (0, 0, 0, 0), "invertible sform"),
        (280, "4f", (np.nan, 0, 0, 0), "finite numbers in the sform"),
        (280, "12f", (1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0), "invertible sform"),
        (344, "4s", (b"nope",), "no NIfTI signature"),
        (0, "i", (999,), "NIfTI or Analyze header"),
        (344, "4s", (b"ni1\0",), "that of a .hdr/.img pair"),
    ],
)
def test_impossible_header_fields_are_rejected(
    nii: Path, offset: int, format: str, values: tuple[float, ...], match: str
) -> None:
    patch(nii, offset, format, *values)
    assert_rejected(nii, match)
    with pytest.raises(VolumeError):
        read_header(nii)


@pytest.mark.parametrize(
    ("offset", "format", "values", "match"),
    [
        (76, "4f", (1, 0, 1, 1), "voxel sizes above 0"),
        (76, "4f", (1, 1, np.nan, 1), "voxel sizes above 0"),
        (256, "3f", (0.9, 0.9, 0.9), "unit quaternion"),
        (268, "3f", (np.inf, 0, 0), "finite numbers in the qform"),
    ],
)
def test_impossible_qforms_are_rejected(
    nii: Path, offset: int, format: str, values: tuple[float, ...], match: str
) -> None:
    patch(nii, 252, "2h", 1, 0)
    patch(nii, offset, format, *values)
    assert_rejected(nii, match)


def test_analyze_file_needs_voxel_sizes(tmp_path: Path) -> None:
    assert_rejected(write_analyze(tmp_path / "a", voxels(), (0, 1, 1)), "voxel sizes above 0")


@pytest.mark.parametrize("keep", [0, 1, 100, 347])
def test_truncated_header_is_rejected(nii: Path, keep: int) -> None:
    nii.write_bytes(nii.read_bytes()[:keep])
    assert_rejected(nii, "cut off")


def test_truncated_data_is_rejected(nii: Path, gz: Path) -> None:
    nii.write_bytes(nii.read_bytes()[:-1])
    assert_rejected(nii, "772 bytes .*got only 771")
    content = gz.read_bytes()
    for keep in (len(content) // 2, len(content) - 9, len(content) - 8, len(content) - 1):
        gz.write_bytes(content[:keep])
        assert_rejected(gz, "cut off")


def test_compressed_data_shorter_than_in_the_header_is_rejected(nii: Path, gz: Path) -> None:
    gz.write_bytes(gzip.compress(nii.read_bytes()[:-10]))
    assert_rejected(gz, "got only 762")


def test_empty_files_and_other_formats_are_rejected(tmp_path: Path) -> None:
    faults = {"a.nii.gz": b"", "b.nii.gz": b"no gzip here", "c.nii": b"x" * 1000, "d.nii.gz": b"\x07\x80" * 500}
    names = ("empty file; .*cut off", "got a text file", "got a text file", "header, got none")
    for (name, content), found in zip(faults.items(), names, strict=True):
        (tmp_path / name).write_bytes(content)
        assert_rejected(tmp_path / name, found)


def test_wrong_gzip_checksum_is_rejected(gz: Path) -> None:
    content = bytearray(gz.read_bytes())
    content[-8] ^= 1
    gz.write_bytes(bytes(content))
    assert_rejected(gz, "gzip checksum")
    read_header(gz)  # the header precedes the checksum


def test_flipped_bit_is_detected(gz: Path) -> None:
    content = bytearray(gz.read_bytes())
    content[len(content) // 2] ^= 0x10
    gz.write_bytes(bytes(content))
    assert_rejected(gz, "copy it again|copy the file again|header is wrong")


def test_trailing_data_is_rejected(nii: Path, gz: Path) -> None:
    nii.write_bytes(nii.read_bytes() + b"more")
    assert_rejected(nii, "got 4 more")
    gz.write_bytes(gz.read_bytes() + b"garbage")
    assert_rejected(gz, "other data after")


def test_gzip_data_longer_than_in_the_header_is_not_decompressed(nii: Path, gz: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    with gz.open("wb") as file:
        file.write(packer.compress(nii.read_bytes()))
        for _ in range(20):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    assert_rejected(gz, "got more")


def test_decompression_bomb_with_a_consistent_header_is_not_decompressed(
    nii: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(nii, 40, "4h", 3, 640, 640, 512)
    bomb = nii.with_name("bomb.nii.gz")
    bomb.write_bytes(gzip.compress(nii.read_bytes()[:352]) + bytes(500_000))  # rejected by its size
    monkeypatch.setattr("core.imaging.bounded_io.np.empty", lambda *_: pytest.fail("memory was allocated"))
    assert_rejected(bomb, "decompression bomb")


def test_impossible_size_is_rejected_before_allocation(nii: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gz = nii.with_name("b.nii.gz")
    patch(nii, 40, "4h", 3, 1000, 1000, 1000)
    gz.write_bytes(gzip.compress(nii.read_bytes()))
    monkeypatch.setattr("core.imaging.bounded_io.np.empty", lambda *_: pytest.fail("memory was allocated"))
    assert_rejected(nii, "cut off")
    assert_rejected(gz, "got far fewer")


def test_size_limit_and_its_environment_variable(nii: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(nii, 40, "4h", 3, 30000, 30000, 30000)
    assert_rejected(nii, "at most 8.6 GB of voxels, got")
    monkeypatch.setenv("SEGMENTARIUM_MAX_BYTES", "100")
    assert_rejected(write_nifti(nii, voxels()), "SEGMENTARIUM_MAX_BYTES")
    monkeypatch.setenv("SEGMENTARIUM_MAX_BYTES", "a lot")
    with pytest.raises(VolumeError, match="whole number of bytes"):
        read_image(nii)


def test_image_larger_than_free_memory_is_rejected(nii: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 10

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    assert_rejected(nii, "free memory")


def test_non_finite_intensities_are_rejected(tmp_path: Path) -> None:
    array = voxels().astype(np.float32)
    array[0, 0, :2] = np.nan
    array[1, 1, 1] = np.inf
    path = write_nifti(tmp_path / "a.nii", array)
    assert_rejected(path, "got infinity or values beyond 32 bits in 1 voxel of 210, and NaN in 2")
    with pytest.raises(VolumeError, match="infinity"):
        read_image(path, nan_is_zero=True)
    huge = np.full((2, 2, 2), 1e300)
    assert_rejected(write_nifti(tmp_path / "b.nii", huge), "32 bits in 8 voxels of 8;")


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 1e20])
def test_label_values_must_be_integers(tmp_path: Path, bad: float) -> None:
    labels = label_map((0, 1, 2)).astype(np.float64)
    labels[2, 2, 2] = bad
    path = write_nifti(tmp_path / "a.nii.gz", labels)
    with pytest.raises(VolumeError, match=r"whole numbers as labels, got (NaN|other values) in 1 voxel\b"):
        read_label(path)


def test_label_map_must_have_one_channel(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="3-D label map, got 2 channels"):
        read_label(write_nifti(tmp_path / "a.nii", voxels((4, 4, 4, 2))))


def test_missing_files_folders_links_and_other_types_are_rejected(tmp_path: Path) -> None:
    assert_rejected(tmp_path / "none.nii.gz", "nothing there")
    (tmp_path / "folder.nii").mkdir()
    assert_rejected(tmp_path / "folder.nii", "got a folder")
    (tmp_path / "picture.png").write_bytes(b"")
    assert_rejected(tmp_path / "picture.png", "another kind of file")
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    assert_rejected(tmp_path / "loop.nii", "cannot be opened")
    assert_rejected(tmp_path / ("x" * 300 + ".nii"), "cannot be opened")
    assert_rejected(tmp_path / "a.nii" / "b.nii", "nothing there|cannot be opened")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_rejected_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    assert_rejected(tmp_path / "pipe.nii", "pipe or device")


def test_unreadable_file_is_rejected(nii: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nii.chmod(0)
    if os.access(nii, os.R_OK):  # root can read it: simulate the error

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    assert_rejected(nii, "permission denied")


def test_pair_needs_both_files(tmp_path: Path) -> None:
    header = write_analyze(tmp_path / "a", voxels())
    header.with_suffix(".img").unlink()
    assert_rejected(header, "other half a.img")
    header = write_analyze(tmp_path / "b", voxels())
    header.unlink()
    assert_rejected(header.with_suffix(".img"), "other half b.hdr")


def test_pair_with_data_of_the_wrong_size_is_rejected(tmp_path: Path) -> None:
    header = write_analyze(tmp_path / "a", voxels())
    header.with_suffix(".img").write_bytes(struct.pack("<5h", *range(5)))
    with pytest.raises(VolumeError, match=r"a\.img: expected 420 bytes .*got only 10"):
        read_image(header)


@pytest.mark.slow
@pytest.mark.parametrize("container", ["nifti1", "nifti2", "pair", "analyze"])
def test_damaged_header_gives_a_valid_volume_or_a_volume_error(tmp_path: Path, container: str) -> None:
    """Random bytes at random positions of the header; never another exception."""
    kinds = {"nifti1": nib.Nifti1Image, "nifti2": nib.Nifti2Image, "pair": nib.Nifti1Pair}
    path = tmp_path / ("a.nii" if container in ("nifti1", "nifti2") else "a.hdr")
    if container == "analyze":
        write_analyze(path, voxels())
    else:
        nib.save(kinds[container](voxels(), np.diag([1, 2, 3, 1])), path)
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(100):
        content = bytearray(intact)
        for position in rng.integers(0, min(len(content), 540), rng.integers(1, 6)):
            content[position] = rng.choice(np.array([0, 127, 128, 255, rng.integers(256)]))
        path.write_bytes(bytes(content))
        try:
            volume = read_label(path)
            write_label(tmp_path / "out.nii", volume.data[0], volume, path)
            assert np.array_equal(read_label(tmp_path / "out.nii").data, volume.data)
        except VolumeError as error:
            assert "expected" in str(error) and "\n" not in str(error)
            rejected += 1
    assert 0 < rejected < 100


def test_invalid_qform_beside_a_valid_sform_is_not_copied(nii: Path, tmp_path: Path) -> None:
    patch(nii, 252, "2h", 1, 9)
    patch(nii, 256, "3f", 0.9, 0.9, 0.9)
    volume = read_image(nii)
    write_label(tmp_path / "out.nii", volume.data[0] > 500, volume, nii)
    header = load(tmp_path / "out.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    assert np.allclose(header.get_sform(), volume.stored.affine)
