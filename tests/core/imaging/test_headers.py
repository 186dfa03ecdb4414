"""What headers state: units of length, sform and qform, scaling, channels; and how it is understood."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.headers import read_header
from core.imaging.volume import read_image, read_label, write_label
from tests.support.volume_files import AFFINE, SHAPE, load, patch, voxels, write_analyze, write_nifti

UNITS = {"meter": (1, 1e-3), "mm": (2, 1.0), "micron": (3, 1e3)}  # code of the standard, and units in a millimetre
XYZT_UNITS = 123  # byte of the header


def in_unit(path: Path, unit: str, array: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    """A file whose lengths are stated in a unit; sform and qform codes 1."""
    affine = np.diag([UNITS[unit][1]] * 3 + [1]) @ affine
    image = nib.Nifti1Image(voxels() if array is None else array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("time", [0, 8, 16, 24, 32])
def test_lengths_are_in_millimetres_whichever_unit_the_file_states(tmp_path: Path, unit: str, time: int) -> None:
    path = in_unit(tmp_path / "a.nii", unit)
    patch(path, XYZT_UNITS, "B", UNITS[unit][0] | time)
    header = read_header(path)
    assert header.unit == {"meter": "metre"}.get(unit, unit)
    assert header.geometry.spacing_mm == pytest.approx((1, 1.5, 2))
    np.testing.assert_allclose(header.geometry.affine, AFFINE, rtol=1e-6)
    assert header.geometry.voxel_volume_mm3 == pytest.approx(3)
    assert header.warnings == ()
    assert [unit in note.replace("metre", "meter") for note in header.notes] == [True] * (unit != "mm")


@pytest.mark.parametrize("code", [0, 4, 7, 8])
def test_an_unknown_unit_is_millimetres_with_a_note(tmp_path: Path, code: int) -> None:
    header = read_header(patch(in_unit(tmp_path / "a.nii", "mm"), XYZT_UNITS, "B", code))
    assert header.unit == "unknown" and header.geometry.spacing_mm == pytest.approx((1, 1.5, 2))
    assert header.notes == ("no unit of length is stated: millimetres are assumed",)


def test_units_of_a_qform_of_voxel_sizes_alone_and_of_nifti_2_count_too(tmp_path: Path) -> None:
    path = in_unit(tmp_path / "a.nii", "micron")
    by_qform = read_header(patch(path, 254, "h", 0)).geometry
    np.testing.assert_allclose(by_qform.affine, AFFINE, rtol=1e-5)
    sizes = read_header(patch(path, 252, "2h", 0, 0)).geometry
    assert sizes.spacing_mm == pytest.approx((1, 1.5, 2)) and not sizes.oriented
    second = nib.Nifti2Image(voxels(), np.diag([10, 10, 20, 1]))
    second.header.set_xyzt_units("micron", "sec")
    nib.save(second, tmp_path / "b.nii.gz")
    assert read_header(tmp_path / "b.nii.gz").geometry.spacing_mm == pytest.approx((0.01, 0.01, 0.02))


@pytest.mark.parametrize(("text", "size_mm"), [(b"", 20), (b"mm", 20), (b"um", 0.02), (b"m", 20_000)])
def test_analyze_has_its_unit_as_text(tmp_path: Path, text: bytes, size_mm: float) -> None:
    path = patch(write_analyze(tmp_path / "a", voxels(), (10, 10, 20)), 56, "4s", text)
    assert read_header(path).geometry.spacing_mm[2] == pytest.approx(size_mm)


def test_big_endian_header_states_its_unit(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("micron")
    nib.save(nib.Nifti1Image(voxels(), np.diag([10, 10, 10, 1]), header), tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").byte_order == ">"
    assert read_header(tmp_path / "a.nii").geometry.spacing_mm == pytest.approx((0.01, 0.01, 0.01))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (0, 0)])
def test_written_label_map_keeps_unit_codes_and_place(tmp_path: Path, unit: str, codes: tuple[int, int]) -> None:
    path = patch(in_unit(tmp_path / "a.nii", unit, affine=AFFINE @ np.diag([-1, 1, 1, 1])), 252, "2h", *codes[::-1])
    volume = read_image(path)
    write_label(tmp_path / "out.nii.gz", volume.data[0] > 500, volume, path)
    image, written = load(path), load(tmp_path / "out.nii.gz")
    assert written.header.get_xyzt_units()[0] == unit
    for field in ("sform_code", "qform_code"):
        assert int(written.header[field]) == int(image.header[field])
    np.testing.assert_array_equal(written.affine, image.affine)
    np.testing.assert_allclose(written.header.get_zooms(), image.header.get_zooms(), rtol=1e-6)
    assert read_label(tmp_path / "out.nii.gz").stored == volume.stored


def with_two_forms(path: Path, sform: np.ndarray, qform: np.ndarray) -> Path:
    image = nib.Nifti1Image(voxels(), sform)
    image.set_qform(qform, 1)
    image.set_sform(sform, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def moved(affine: np.ndarray, *shift_mm: float) -> np.ndarray:
    affine = affine.copy()
    affine[:3, 3] += shift_mm
    return affine


def test_sform_and_qform_that_differ_are_reported_with_their_distance_in_mm(tmp_path: Path) -> None:
    header = read_header(with_two_forms(tmp_path / "a.nii", AFFINE, moved(AFFINE, 0, 66, 0)))
    np.testing.assert_array_equal(header.geometry.affine, AFFINE)
    assert header.qform is not None
    (warning,) = header.warnings
    assert "66 mm apart" in warning and "the sform is used" in warning
    turned = read_header(with_two_forms(tmp_path / "b.nii", AFFINE, AFFINE @ np.diag([-1, 1, 1, 1])))
    assert "RAS and LAS" in turned.warnings[0]


def test_sform_and_qform_that_agree_are_not_mentioned(tmp_path: Path) -> None:
    for qform in (AFFINE, moved(AFFINE, 0, 0.05, 0)):
        header = read_header(with_two_forms(tmp_path / "a.nii", AFFINE, qform))
        assert header.warnings == header.notes == () and header.qform is None
    shifted = with_two_forms(tmp_path / "b.nii", AFFINE, moved(AFFINE, 0, 66, 0))
    assert read_header(patch(shifted, 252, "h", 0)).warnings == ()  # the qform is not valid


def test_distance_of_sform_and_qform_is_in_mm_in_every_unit(tmp_path: Path) -> None:
    path = with_two_forms(tmp_path / "a.nii", AFFINE, moved(AFFINE, 0, 66, 0))
    assert "0.066 mm apart" in read_header(patch(path, XYZT_UNITS, "B", 3)).warnings[0]


def test_voxel_sizes_that_contradict_the_sform_are_reported(tmp_path: Path) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", voxels()), 80, "3f", 2, 1.5, 2)
    (warning,) = read_header(path).warnings
    assert "2 x 1.5 x 2 mm, the sform of 1 x 1.5 x 2 mm" in warning
    assert read_header(path).geometry.spacing_mm == (1, 1.5, 2)


def test_negative_qfac_and_left_handed_axes_are_read(tmp_path: Path) -> None:
    affine = AFFINE @ np.diag([1, 1, -1, 1])
    image = nib.Nifti1Image(voxels(), affine)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    assert float(load(tmp_path / "a.nii").header["pixdim"][0]) == -1
    geometry = read_header(tmp_path / "a.nii").geometry
    np.testing.assert_allclose(geometry.affine, affine, atol=1e-6)
    assert geometry.axis_codes == ("R", "A", "I") and geometry.voxel_volume_mm3 == pytest.approx(3)


GANTRY = np.diag([1.0, 1, 5, 1])
GANTRY[1, 2] = 5 * np.tan(np.deg2rad(30))


def test_sheared_axes_are_noted_with_their_angle(tmp_path: Path) -> None:
    header = read_header(write_nifti(tmp_path / "a.nii", voxels(), GANTRY))
    assert "not at right angles (sheared 30°)" in header.notes[0] and header.warnings == ()
    assert header.geometry.voxel_volume_mm3 == pytest.approx(5)


def test_qform_beside_a_sheared_sform_is_no_contradiction_if_it_lacks_the_shear_only(tmp_path: Path) -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    for sform in (GANTRY, turned @ GANTRY, GANTRY @ np.diag([-1, 1, 1, 1])):
        assert read_header(with_two_forms(tmp_path / "a.nii", sform, sform)).warnings == ()
        (warning,) = read_header(with_two_forms(tmp_path / "b.nii", sform, moved(sform, 0, 66, 0))).warnings
        assert "mm apart" in warning


def test_shear_is_written_back(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(), GANTRY)
    volume = read_image(path)
    for like in (path, None):
        write_label(tmp_path / "out.nii", volume.data[0] > 500, volume, like)
        np.testing.assert_array_equal(load(tmp_path / "out.nii").affine, load(path).affine)
        assert read_header(tmp_path / "out.nii").warnings == ()


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_slope_of_zero_or_nan_means_unscaled(tmp_path: Path, slope: float) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", voxels()), 112, "2f", slope, 7)
    assert not read_header(path).scaled and np.array_equal(read_image(path).data[0], voxels())
    assert len(read_header(path).notes) == np.isnan(slope)
    assert np.array_equal(read_label(path).data[0], voxels())


def test_an_intercept_of_nan_adds_nothing(tmp_path: Path) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", voxels()), 112, "2f", 0.5, np.nan)
    assert np.array_equal(read_image(path).data[0], voxels() * 0.5)
    assert "scl_inter is NaN" in read_header(path).notes[0]


@pytest.mark.parametrize("intent", [0, 1007])
def test_a_vector_image_of_itk_has_channels(tmp_path: Path, intent: int) -> None:
    array = voxels((*SHAPE, 1, 3))
    path = patch(write_nifti(tmp_path / "a.nii", array), 68, "h", intent)
    assert (read_header(path).shape, read_header(path).channels) == (SHAPE, 3)
    assert np.array_equal(read_image(path).data, np.moveaxis(array[:, :, :, 0], 3, 0))
    with pytest.raises(VolumeError, match="5 dimensions"):
        read_header(write_nifti(tmp_path / "b.nii", voxels((*SHAPE, 2, 3))))


def test_a_time_axis_is_read_as_channels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels((*SHAPE, 4)), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").channels == 4 and read_header(tmp_path / "a.nii").notes == ()


@pytest.mark.parametrize("content", ["nifti", "pair"])
def test_compression_is_recognised_by_content(tmp_path: Path, content: str) -> None:
    plain = write_nifti(tmp_path / "plain.nii", voxels())
    if content == "nifti":
        (tmp_path / "a.nii.gz").write_bytes(plain.read_bytes())
        (tmp_path / "b.nii").write_bytes(gzip.compress(plain.read_bytes()))
        files = [tmp_path / "a.nii.gz", tmp_path / "b.nii"]
    else:
        files = [write_analyze(tmp_path / "a", voxels()), write_analyze(tmp_path / "b", voxels())]
        for suffix in (".hdr", ".img"):
            (tmp_path / f"b{suffix}").write_bytes(gzip.compress((tmp_path / f"b{suffix}").read_bytes()))
            (tmp_path / f"a{suffix}").rename(tmp_path / f"a{suffix}.gz")
        files[0] = tmp_path / "a.hdr.gz"
    for path, note in zip(files, ("not gzipped", "gzipped"), strict=True):
        assert np.array_equal(read_image(path).data[0], voxels())
        assert read_header(path).notes[0].startswith(note)


def test_voxels_of_a_pair_that_begin_like_gzip_are_read_as_they_are(tmp_path: Path) -> None:
    array = voxels()
    array[0, 0, 0] = np.frombuffer(b"\x1f\x8b", "<i2")[0]
    assert np.array_equal(read_image(write_analyze(tmp_path / "a", array)).data[0], array)
