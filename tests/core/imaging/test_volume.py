"""Reading and writing valid files: orientations, formats, scaling, label maps in the geometry of the image."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.volume import read_header, read_image, read_label, to_stored, write_label
from tests.support.volume_files import AFFINE, SHAPE, label_map, load, patch, voxels, write_analyze, write_nifti

ORIENTATIONS = ("RAS", "LAS", "LPS", "PIR", "SLA", "IPL", "ARS")


def reoriented(array: np.ndarray, affine: np.ndarray, codes: str) -> nib.Nifti1Image:
    """The image stored in another orientation."""
    image = nib.Nifti1Image(array, affine)
    start = nib.io_orientation(affine)
    return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_image_of_any_orientation_is_read_in_canonical_order(tmp_path: Path, codes: str) -> None:
    array = voxels()
    nib.save(reoriented(array, AFFINE, codes), tmp_path / "a.nii.gz")
    volume = read_image(tmp_path / "a.nii.gz")
    assert volume.data.dtype == np.float32 and volume.data.flags.c_contiguous
    assert np.array_equal(volume.data[0], array)
    assert volume.geometry.axis_codes == ("R", "A", "S")
    assert np.allclose(volume.geometry.affine, AFFINE) and volume.geometry.spacing_mm == pytest.approx((1, 1.5, 2))
    assert "".join(volume.stored.axis_codes) == codes
    assert np.array_equal(to_stored(volume.data[0], volume), load(tmp_path / "a.nii.gz").get_fdata())


@pytest.mark.parametrize("seed", range(5))
def test_oblique_image_equals_nibabels_closest_canonical(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3, 3)
    affine[:3, 3] = rng.normal(size=3) * 30
    write_nifti(tmp_path / "a.nii", voxels(), affine)
    expected = nib.as_closest_canonical(load(tmp_path / "a.nii"))
    volume = read_image(tmp_path / "a.nii")
    assert np.array_equal(volume.data[0], expected.get_fdata(dtype=np.float32))
    assert np.allclose(volume.geometry.affine, expected.affine)


def test_channels_of_a_4d_file(tmp_path: Path) -> None:
    array = voxels((*SHAPE, 3))
    path = write_nifti(tmp_path / "a b ü.nii.gz", array)
    header = read_header(path)
    assert (header.shape, header.channels, header.dtype, header.format) == (SHAPE, 3, "int16", "nifti1")
    assert header.nbytes == array.nbytes
    assert np.array_equal(read_image(path).data, np.moveaxis(array, 3, 0))
    assert np.array_equal(read_image(path, 2).data[0], array[..., 2])
    with pytest.raises(VolumeError, match="at least 4 channels, got 3"):
        read_image(path, 3)


def test_analyze_file_is_not_flipped(tmp_path: Path) -> None:
    array = voxels()
    header = write_analyze(tmp_path / "subject", array, (1, 1, 2))
    for path in (header, header.with_suffix(".img")):
        volume = read_image(path)
        assert read_header(path).format == "analyze"
        assert np.array_equal(volume.data[0], array)
        assert volume.geometry.axis_codes == ("?", "?", "?")
        assert volume.geometry.spacing_mm == (1, 1, 2)


def test_nifti_without_orientation_codes_is_not_flipped(tmp_path: Path) -> None:
    volume = read_image(write_nifti(tmp_path / "a.nii", voxels(), None))
    assert not volume.geometry.oriented and np.array_equal(volume.data[0], voxels())


@pytest.mark.parametrize("kind", [nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti1Image])
def test_nifti_1_and_2_single_files_and_pairs_are_read(tmp_path: Path, kind: type) -> None:
    names = [".hdr", ".hdr.gz"] if kind is nib.Nifti1Pair else [".nii", ".nii.gz"]
    for suffix in names:
        nib.save(kind(voxels(), AFFINE), tmp_path / f"a{suffix}")
        volume = read_image(tmp_path / f"a{suffix}")
        assert np.array_equal(volume.data[0], voxels()) and np.allclose(volume.stored.affine, AFFINE)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_dtype_is_read_in_both_byte_orders(tmp_path: Path, dtype: str, order: str) -> None:
    array = (voxels() % 100).astype(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").byte_order == order
    assert np.array_equal(read_image(tmp_path / "a.nii").data[0], array)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", voxels()), 112, "2f", 0.5, -3)
    assert np.allclose(read_image(path).data[0], voxels() * 0.5 - 3)
    patch(path, 112, "2f", 0, 7)  # a slope of 0 means: not scaled
    assert np.array_equal(read_image(path).data[0], voxels())


def test_qform_is_used_without_an_sform(tmp_path: Path) -> None:
    affine = AFFINE @ np.diag([-1, 1, 1, 1])
    image = nib.Nifti1Image(voxels(), None)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    assert np.allclose(read_header(tmp_path / "a.nii").geometry.affine, affine, atol=1e-5)


def test_uppercase_extensions_are_recognised(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", voxels()).rename(tmp_path / "A.NII.GZ")
    assert np.array_equal(read_image(path).data[0], voxels())
    write_analyze(tmp_path / "b", voxels())
    header = (tmp_path / "b.hdr").rename(tmp_path / "b.HDR")
    (tmp_path / "b.img").rename(tmp_path / "b.IMG")
    assert np.array_equal(read_image(header).data[0], voxels())


def test_several_gzip_members_and_padding_are_valid(tmp_path: Path) -> None:
    content = write_nifti(tmp_path / "a.nii", voxels()).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]) + b"\0" * 100)
    assert np.array_equal(read_image(path).data[0], voxels())


def test_label_maps_keep_their_raw_values(tmp_path: Path) -> None:
    labels = label_map((0, 10, 150, 250))
    for dtype in (np.uint8, np.float32, np.float64, np.uint16, np.int64):
        volume = read_label(write_nifti(tmp_path / "a.nii.gz", labels.astype(dtype) if dtype != np.int64 else labels))
        assert volume.data.dtype == np.int32 and np.array_equal(volume.data[0], labels)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_label_map_is_written_in_the_geometry_of_the_image(tmp_path: Path, codes: str, name: str) -> None:
    image = reoriented(voxels(), AFFINE, codes)
    image.set_sform(image.affine, 2)
    image.set_qform(image.affine, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_image(tmp_path / "a.nii.gz")
    write_label(tmp_path / name, (volume.data[0] > 500) * 250, volume, tmp_path / "a.nii.gz")
    written = load(tmp_path / name)
    assert np.array_equal(written.affine, image.affine)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (2, 1)
    assert np.allclose(written.get_qform(), image.get_qform(), atol=1e-5)
    assert np.array_equal(written.get_fdata(), (image.get_fdata() > 500) * 250)
    assert written.get_data_dtype() == np.uint8
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"a.nii.gz", name})


def test_unknown_orientation_is_written_as_unknown(tmp_path: Path) -> None:
    header = write_analyze(tmp_path / "a", voxels(), (1, 1, 2))
    volume = read_image(header)
    write_label(tmp_path / "out.nii.gz", volume.data[0] > 500, volume, header)
    written = load(tmp_path / "out.nii.gz")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (0, 0)
    assert tuple(written.header.get_zooms()) == (1, 1, 2)
    assert np.array_equal(np.asarray(written.dataobj), voxels() > 500)
    assert read_label(tmp_path / "out.nii.gz").stored == volume.stored


def test_label_dtype_is_the_smallest_sufficient(tmp_path: Path) -> None:
    volume = read_image(write_nifti(tmp_path / "a.nii", voxels()))
    for low, high, dtype in ((0, 255, np.uint8), (0, 256, np.int16), (-1, 5, np.int16), (0, 40_000, np.int32)):
        values = np.zeros(SHAPE, np.int64)
        values[0, 0, 0], values[1, 1, 1] = low, high
        write_label(tmp_path / "out.nii", values, volume)
        assert load(tmp_path / "out.nii").get_data_dtype() == dtype
        assert np.array_equal(read_label(tmp_path / "out.nii").data[0], values)


def test_invalid_output_paths_are_rejected(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", voxels())
    volume = read_image(path)
    values = np.zeros(SHAPE, np.uint8)
    with pytest.raises(VolumeError, match=r"ending in \.nii"):
        write_label(tmp_path / "out.png", values, volume)
    with pytest.raises(VolumeError, match="another file"):
        write_label(path, values, volume, path)
    with pytest.raises(VolumeError, match="cannot be written"):
        write_label(tmp_path / "none" / "out.nii", values, volume)
    with pytest.raises(VolumeError, match="cannot be written"):
        write_label(tmp_path / ("x" * 300 + ".nii"), values, volume, path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_written_file_has_default_permissions(tmp_path: Path) -> None:
    volume = read_image(write_nifti(tmp_path / "a.nii", voxels()))
    write_label(tmp_path / "out.nii", np.zeros(SHAPE, np.uint8), volume)
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "out.nii").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.data
def test_real_volumes_equal_nibabels(test_data: Path) -> None:
    paths = sorted((test_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))[:5]
    paths.append(next((test_data / "fetal_atlas").glob("*/srr.nii.gz")))
    for path in paths:
        expected = nib.as_closest_canonical(load(path))
        volume = read_image(path)
        assert np.array_equal(volume.data[0], expected.get_fdata(dtype=np.float32))
        assert np.allclose(volume.geometry.affine, expected.affine)


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("values", [(0.0, 1.0, 2.0, 3.0), (0.0, 10.0, 150.0, 250.0), (0.0, 1.0)])
def test_float_labels_under_an_integer_header_are_whole_numbers(
    tmp_path: Path, stored: type, values: tuple[float, ...]
) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(stored)  # nibabel then writes a slope that does not hit whole numbers
    labels = label_map(tuple(int(v) for v in values))
    nib.save(nib.Nifti1Image(labels.astype(np.float64), AFFINE, header), tmp_path / "a.nii.gz")
    assert read_header(tmp_path / "a.nii.gz").scaled
    assert np.array_equal(read_label(tmp_path / "a.nii.gz").data[0], labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_deviations_from_whole_numbers_are_rounded(tmp_path: Path, dtype: type) -> None:
    labels = label_map((0, 1, 2))
    noise = np.random.default_rng(0).uniform(-9e-4, 9e-4, labels.shape)
    volume = read_label(write_nifti(tmp_path / "a.nii", (labels + noise).astype(dtype)))
    assert np.array_equal(volume.data[0], labels) and volume.warnings == ()


def test_visible_rounding_within_half_a_scaling_step_is_reported(tmp_path: Path) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", label_map((0, 10, 20))), 112, "f", 0.98)
    volume = read_label(path)
    assert np.array_equal(np.unique(volume.data), [0, 10, 20])
    assert "by up to 0.4, within half a step of scl_slope 0.98" in volume.warnings[0]


@pytest.mark.parametrize(
    ("slope", "inter", "said"),
    [
        (0.5, 0, r"such as 0\.5 \(stored as uint8 times scl_slope 0\.5\)"),
        (1.3, 0, r"such as 1\.29999995\d*, 2\.5999999\d* \(stored as uint8 times scl_slope 1\.3\)"),
        (1, 0.25, r"such as 0\.25, 1\.25, 2\.25 \(stored as uint8 times scl_slope 1 plus scl_inter 0\.25\)"),
    ],
)
def test_labels_beyond_half_a_scaling_step_are_refused_with_digits_and_slope(
    tmp_path: Path, slope: float, inter: float, said: str
) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", label_map((0, 1, 2))), 112, "2f", slope, inter)
    with pytest.raises(VolumeError, match=said):
        read_label(path)


def test_deviations_of_labels_are_shown_with_their_digits(tmp_path: Path) -> None:
    labels = label_map((0, 1, 2)).astype(np.float64)
    labels[labels == 2] = 2000.00125
    with pytest.raises(VolumeError, match=r"such as 2000\.00125"):
        read_label(write_nifti(tmp_path / "a.nii", labels))
