"""Parts of image files equal those of the whole volume, in any orientation, type and compression."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging import mapped_volume
from core.imaging.headers import read_header
from core.imaging.mapped_volume import Box, MappedVolume, uncompressed
from core.imaging.volume import read_image, read_label

SHAPE = (11, 8, 9)
BOXES: tuple[Box, ...] = (
    (slice(None), slice(None), slice(4, 6)),
    (slice(None), slice(3, 4), slice(None)),
    (slice(10, 11), slice(None), slice(None)),
    (slice(1, None, 3), slice(0, None, 2), slice(2, None, 4)),
)
AFFINES = {
    "RAS": np.diag([1.0, 2, 3, 1]),
    "LPS": np.diag([-1.0, -2, 3, 1]),
    "sagittal": np.array([[0, 0, -3.0, 5], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_volume, "PART_BYTES", 300)  # several parts for each box


def opened(path: Path, **values: bool) -> MappedVolume:
    header = read_header(path)
    file, offset = uncompressed(header, path.with_name("uncompressed.raw"))
    return MappedVolume(header, header.geometry, file, offset, **values)


def values_of(dtype: str, channels: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(3).integers(0, 120, (*SHAPE, channels))
    return np.squeeze(drawn.astype(dtype))


@pytest.mark.parametrize("orientation", AFFINES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", ">i2", "float32"])
def test_boxes_of_intensities(tmp_path: Path, orientation: str, ending: str, dtype: str) -> None:
    path = tmp_path / f"image{ending}"
    image = nib.Nifti1Image(values_of(dtype), AFFINES[orientation])
    if dtype == ">i2":
        image = nib.Nifti1Image(values_of("int16"), AFFINES[orientation], image.header.as_byteswapped(">"))
    nib.save(image, path)
    volume, whole = opened(path), read_image(path)
    assert volume.shape == whole.geometry.shape
    for box in BOXES:
        found = volume.intensities(box)
        assert found.dtype == np.float32 and found.flags.f_contiguous
        assert np.array_equal(found, whole.data[0][box])


def test_scaling_and_channels(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    image = nib.Nifti1Image(values_of("int16", 3), AFFINES["LPS"])
    image.header.set_slope_inter(0.5, -7)
    nib.save(image, path)
    volume, whole = opened(path), read_image(path)
    assert np.array_equal(volume.intensities(BOXES[0], 2), whole.data[2][BOXES[0]])


def test_boxes_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(values_of("float32") // 40, AFFINES["sagittal"]), path)
    assert np.array_equal(opened(path).labels(BOXES[1]), read_label(path).data[0][BOXES[1]])
    nib.save(nib.Nifti1Image(values_of("float32") / 7, AFFINES["RAS"]), path)
    (tmp_path / "uncompressed.raw").unlink()
    with pytest.raises(VolumeError, match="expected whole numbers as labels"):
        opened(path).labels(BOXES[1])


def test_nan_is_read_as_zero_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    values = values_of("float32")
    values[2, 3, 4] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    everything = (slice(None), slice(None), slice(None))
    with pytest.raises(VolumeError, match=r"NaN.*--nan-is-zero"):
        opened(path).intensities(everything)
    assert opened(path, nan_is_zero=True).intensities(everything)[2, 3, 4] == 0
    values[0, 0, 0] = np.inf
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    with pytest.raises(VolumeError, match="finite"):
        opened(path, nan_is_zero=True).intensities(everything)


def test_files_are_decompressed_once_with_progress(tmp_path: Path) -> None:
    path, target = tmp_path / "image.nii.gz", tmp_path / "out.raw"
    nib.save(nib.Nifti1Image(values_of("int16"), np.eye(4)), path)
    header, shares = read_header(path), list[float]()
    assert uncompressed(header, target, shares.append) == (target, header.offset)
    assert shares[-1] == 1 and target.read_bytes() == gzip.decompress(path.read_bytes())
    assert uncompressed(header, target, lambda share: pytest.fail("again")) == (target, header.offset)
    plain = tmp_path / "image.nii"
    plain.write_bytes(target.read_bytes())
    assert uncompressed(read_header(plain), tmp_path / "unused") == (plain, header.offset)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("change", ["cut off", "longer"])
def test_files_of_another_length_are_refused_and_nothing_is_left(tmp_path: Path, ending: str, change: str) -> None:
    path = tmp_path / f"image{ending}"
    nib.save(nib.Nifti1Image(values_of("int16"), np.eye(4)), tmp_path / "good.nii")
    content = (tmp_path / "good.nii").read_bytes()
    content = content[:-9] if change == "cut off" else content + bytes(9)
    path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    header = read_header(path)
    with pytest.raises(VolumeError, match="according to its header"):
        uncompressed(header, tmp_path / "out.raw")
    assert not list(tmp_path.glob("*.raw")) and not list(tmp_path.glob("*.tmp"))
