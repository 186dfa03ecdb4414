"""DICOM series and multi-frame files against phantoms with known voxels, orientation and spacing."""

from __future__ import annotations

import locale
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.geometry import to_canonical
from core.imaging.volume import read_header, read_image, write_map
from tests.support.foreign_volumes import (
    Series,
    assert_phantom,
    dicom_header,
    oblique_affine,
    phantom,
    refused,
    write_multiframe,
    write_series,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_decoded_cache")]


def test_a_series_is_one_volume_whatever_the_names_of_its_files(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine()
    folder = write_series(tmp_path / "series", array, affine, Series(slope=2, intercept=-1000))
    (folder / "README.txt").write_text("not DICOM")
    header = read_header(folder)
    np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(read_image(folder).data[0], to_canonical(array * 2.0 - 1000, header.geometry))
    assert "1 file other than DICOM left out" in header.notes
    one = next(folder.glob("*.dcm"))
    np.testing.assert_array_equal(read_image(one).data, read_image(folder).data)


def test_frames_of_one_file_are_ordered_by_their_positions(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine(shear=0.2)
    file = write_multiframe(tmp_path / "enhanced.dcm", array, affine, order=[3, 0, 6, 2, 1, 5, 4])
    header = read_header(file)
    np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(read_image(file).data[0], to_canonical(array * 2.0 - 7, header.geometry))


def test_frames_lie_where_highdicom_places_them_also_when_converted_to_nifti(tmp_path: Path) -> None:
    import highdicom

    file = write_multiframe(tmp_path / "a.dcm", phantom(), oblique_affine(), order=[3, 0, 6, 2, 1, 5, 4])
    placed = highdicom.imread(file).get_volume()
    to_ras = np.diag([-1.0, -1, 1, 1]) @ placed.affine
    expected = nib.as_closest_canonical(nib.Nifti1Image(placed.array.astype(np.float64), to_ras))
    volume = read_image(file)
    np.testing.assert_allclose(volume.geometry.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(volume.data[0], expected.get_fdata())
    write_map(tmp_path / "converted.nii.gz", volume.data[0], volume, file)
    converted = nib.as_closest_canonical(nib.load(tmp_path / "converted.nii.gz"))
    np.testing.assert_allclose(converted.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(converted.get_fdata(), expected.get_fdata())


def test_slices_with_their_own_scaling_are_scaled(tmp_path: Path) -> None:
    array, affine = phantom((5, 6, 2)), oblique_affine()
    folder = tmp_path / "pet"
    write_series(folder, array[:, :, :1], affine, Series(slope=2))
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ [0, 0, 1] + affine[:3, 3]
    write_series(folder, array[:, :, 1:], moved, Series(slope=0.5, number=2))
    header = read_header(folder)
    expected = array * np.array([2, 0.5])
    np.testing.assert_allclose(read_image(folder).data[0], to_canonical(expected, header.geometry))


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", phantom(), oblique_affine())
    files = sorted(folder.iterdir())
    next(f for f in files if f.name.endswith("-4.dcm")).unlink()
    message = refused(folder)
    assert "expected slices 2 mm apart, got 4 mm between" in message and "1 slice is missing" in message


def test_unequal_distances_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", phantom((5, 6, 3)), oblique_affine())
    moved = oblique_affine()
    moved[:3, 3] = moved[:3, :3] @ [0, 0, 3.3] + moved[:3, 3]
    write_series(folder, phantom((5, 6, 1)), moved, Series(number=9))
    assert "expected slices at equal distances, got 2 to 2.6 mm" in refused(folder)


def test_several_images_in_a_folder_are_named_and_one_of_them_can_be_chosen(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "study", phantom(), oblique_affine())
    turned = oblique_affine()[:, [1, 2, 0, 3]]
    write_series(folder, phantom((6, 7, 5)), turned, Series(uid="1.2.3.9", number=50))
    message = refused(folder)
    assert "got 2 images" in message and "7 slices 'phantom' of 5x6" in message and "5 slices" in message
    assert_phantom(next(folder.glob("*-52.dcm")), phantom((6, 7, 5)), turned)
    assert_phantom(next(folder.glob("*-2.dcm")), phantom(), oblique_affine())


def test_mixed_orientations_of_one_series_are_two_images(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "localiser", phantom(), oblique_affine())
    write_series(folder, phantom((6, 7, 5)), oblique_affine()[:, [1, 2, 0, 3]], Series(number=50))
    assert "got 2 images" in refused(folder)


def test_time_points_are_channels_and_copies_are_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "dynamic", phantom(), oblique_affine())
    elements = {"TemporalPositionIdentifier": "2"}
    write_series(folder, phantom() + 5, oblique_affine(), Series(number=50, elements=elements))
    copied = next(folder.glob("*-3.dcm"))
    shutil.copy(copied, folder / "copy.dcm")
    header = read_header(folder)
    assert header.channels == 2 and "1 files are copies of others" in header.notes
    data = read_image(folder).data
    np.testing.assert_array_equal(data[1], data[0] + 5)


def test_slices_beside_each_other_are_no_channels(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "two", phantom(), oblique_affine())
    beside = oblique_affine()
    beside[:3, 3] += 20 * beside[:3, 0]
    write_series(folder, phantom(), beside, Series(number=50))
    assert ", 20 mm beside each other" in refused(folder)


def test_pictures_without_geometry_are_refused_or_warned_of(tmp_path: Path) -> None:
    header = dicom_header(phantom(), oblique_affine())
    header.PixelData = phantom()[:, :, 0].T.tobytes()
    del header.ImageOrientationPatient
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert not read_header(tmp_path / "a.dcm").geometry.oriented
    assert "state no position" in read_header(tmp_path / "a.dcm").warnings[0]
    del header.PixelSpacing
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert "pixel spacing above 0 mm" in refused(tmp_path / "a.dcm")
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert "mosaic" in refused(tmp_path / "a.dcm") and "dcm2niix" in refused(tmp_path / "a.dcm")


@pytest.fixture
def kept_locale() -> Iterator[None]:
    """The locale of the process, which the JPEG 2000 encoder of SimpleITK changes."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("kept_locale")
@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS", "JPEG2000", "JPEG"])
def test_compressed_dicom_is_decoded(tmp_path: Path, syntax: str) -> None:
    import SimpleITK as sitk
    from pydicom import dcmread
    from pydicom.uid import JPEGLSLossless, RLELossless

    array = phantom((16, 16, 3))
    folder = write_series(tmp_path / "series", array, oblique_affine())
    for file in folder.iterdir():
        if syntax in ("JPEG2000", "JPEG"):  # JPEG is the lossless process 14, which pydicom alone does not decode
            image = sitk.ReadImage(str(file))
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(file))
            writer.SetImageIO("GDCMImageIO")
            writer.KeepOriginalImageUIDOn()
            writer.SetUseCompression(True)
            writer.SetCompressor(syntax)
            writer.Execute(image)
        stored = dcmread(file)
        if syntax in ("RLE", "JPEG-LS"):
            stored.compress({"RLE": RLELossless, "JPEG-LS": JPEGLSLossless}[syntax])
        stored.RescaleSlope, stored.RescaleIntercept = "2", "-5"
        stored.save_as(file)
    header = read_header(folder)
    np.testing.assert_array_equal(read_image(folder).data[0], to_canonical(array * 2.0 - 5, header.geometry))


def test_compressed_frames_of_different_scaling_are_refused(tmp_path: Path) -> None:
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    file = write_multiframe(tmp_path / "enhanced.dcm", phantom(), oblique_affine())
    header = dcmread(file)
    header.file_meta.TransferSyntaxUID = JPEG2000Lossless
    header.PixelData = encapsulate([b"\xff\x4f\xff\x51"] * int(header.NumberOfFrames))
    header["PixelData"].is_undefined_length = True
    header.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence[0].RescaleSlope = "3"
    header.save_as(file, enforce_file_format=True)
    with pytest.raises(VolumeError, match="one intensity scaling"):
        read_image(file)


def test_damaged_slice_at_an_end_of_the_series_is_reported(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "im", phantom(), oblique_affine())
    last = sorted(folder.iterdir())[2]
    content = last.read_bytes()
    last.write_bytes(content[:150] + b"\xff" * 300 + content[450:])
    assert any(f"1 damaged DICOM file left out, as {last.name}" in w for w in read_header(folder).warnings)
