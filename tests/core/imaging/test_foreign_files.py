"""MGH, NRRD, MetaImage and DICOM against phantoms with known voxels, orientation and spacing."""

from __future__ import annotations

import json
import locale
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging import foreign_files
from core.imaging.geometry import to_canonical
from core.imaging.volume import read_header, read_image, read_label, write_label
from core.processes import JsonLinesChild
from tests.support.foreign_volumes import (
    LPS,
    Series,
    dicom_header,
    oblique_affine,
    phantom,
    write_metaimage,
    write_mgh,
    write_multiframe,
    write_nrrd,
    write_series,
)

Writer = Callable[..., Path]

pytestmark = [pytest.mark.slow]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path_factory.mktemp("runs")))


def assert_phantom(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """The file is read as this array, shape (i, j, k), with this affine."""
    header, image = read_header(path), read_image(path)
    np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)
    assert header.shape == array.shape
    np.testing.assert_array_equal(image.data[0], to_canonical(array, header.geometry))


def refused(path: Path) -> str:
    with pytest.raises(VolumeError) as caught:
        read_image(path)
    assert str(path.parent) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_voxels_orientation_and_spacing_are_those_of_the_phantom(tmp_path: Path, name: str) -> None:
    writers: dict[str, Writer] = {"mg": write_mgh, "nr": write_nrrd, "nh": write_nrrd, "mh": write_metaimage}
    array, affine = phantom(), oblique_affine()
    file = writers[name[2:4]](tmp_path / name, array, affine)
    assert_phantom(file, array, affine)
    assert read_header(file).geometry.axis_codes == ("P", "S", "L")
    assert read_header(file).geometry.spacing_mm == pytest.approx((1, 1.5, 2))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "series"])
def test_the_slope_of_a_tilted_gantry_is_kept_as_a_shear(tmp_path: Path, name: str) -> None:
    writers: dict[str, Writer] = {"a.nrrd": write_nrrd, "a.mha": write_metaimage, "series": write_series}
    array, affine = phantom(), oblique_affine(shear=0.4)
    file = writers[name](tmp_path / name, array, affine)
    assert_phantom(file, array, affine)
    assert any("right angles" in note for note in read_header(file).notes)


def test_compressed_voxels_are_read(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine()
    assert_phantom(write_nrrd(tmp_path / "a.nrrd", array, affine, encoding="gzip"), array, affine)
    assert_phantom(write_metaimage(tmp_path / "a.mha", array, affine, CompressedData="True"), array, affine)


def test_files_without_orientation_are_not_turned(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine()
    nothing = {"space": "", "space directions": "", "space_directions": "", "space_origin": "", "spacings": "1 1.5 2"}
    files = [
        write_mgh(tmp_path / "a.mgz", array, None),
        write_nrrd(tmp_path / "a.nrrd", array, affine, **nothing),
        write_metaimage(tmp_path / "a.mha", array, affine, TransformMatrix="", Offset=""),
    ]
    for file in files:
        header = read_header(file)
        assert not header.geometry.oriented and header.geometry.spacing_mm == pytest.approx((1, 1.5, 2))
        assert "left and right are unknown" in header.warnings[0]
        np.testing.assert_array_equal(read_image(file).data[0], array)


@pytest.mark.parametrize(
    ("space", "to_lps"),
    [("right-anterior-superior", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1)), ("RAS", (-1, -1, 1))],
)
def test_spaces_of_nrrd_are_told_apart(tmp_path: Path, space: str, to_lps: tuple[int, int, int]) -> None:
    """The numbers are the same, the directions of x and y that they refer to are not."""
    array, affine = phantom(), oblique_affine()
    file = write_nrrd(tmp_path / "a.nrrd", array, affine, space=space)
    turned = np.diag([*(LPS @ np.diag(to_lps) @ LPS).diagonal(), 1.0]) @ affine
    expected = np.diag([*(LPS.diagonal() * to_lps * LPS.diagonal()), 1.0]) @ affine
    np.testing.assert_allclose(turned, expected)
    assert_phantom(file, array, expected)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed"])
def test_spaces_of_nrrd_that_name_no_sides_are_not_taken_for_others(tmp_path: Path, space: str) -> None:
    header = read_header(write_nrrd(tmp_path / "a.nrrd", phantom(), oblique_affine(), space=space))
    assert not header.geometry.oriented and "left and right are unknown" in header.warnings[0]


def test_a_path_that_is_relative_to_the_working_directory_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_nrrd(tmp_path / "a.nrrd", phantom(), oblique_affine())
    assert_phantom(Path("a.nrrd"), phantom(), oblique_affine())


def test_units_of_metaimage_are_millimetres_inside(tmp_path: Path) -> None:
    affine = oblique_affine()
    file = write_metaimage(tmp_path / "a.mha", phantom(), affine, DistanceUnits="um")
    np.testing.assert_allclose(read_header(file).geometry.affine[:3], affine[:3] / 1000, atol=1e-8)
    write_metaimage(file, phantom(), affine, DistanceUnits="inch")
    assert "mm, um or cm" in refused(file)


def test_scaled_metaimage_is_refused_and_not_read_unscaled(tmp_path: Path) -> None:
    plain = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"}
    unscaled = write_metaimage(tmp_path / "a.mha", phantom(), oblique_affine(), **plain)
    assert_phantom(unscaled, phantom(), oblique_affine())
    scaled = write_metaimage(tmp_path / "b.mha", phantom(), oblique_affine(), ElementToIntensityFunctionSlope="2.5")
    assert "2.5" in refused(scaled)


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


def test_units_of_nrrd_are_millimetres_inside(tmp_path: Path) -> None:
    affine = oblique_affine()
    microns = np.diag([1e3, 1e3, 1e3, 1]) @ affine
    file = write_nrrd(tmp_path / "a.nrrd", phantom(), microns, space_units='"um" "um" "um"')
    assert_phantom(file, phantom(), affine)
    assert "inches" in refused(write_nrrd(tmp_path / "b.nrrd", phantom(), affine, space_units='"inches" "mm" "mm"'))


def test_channels_are_read_wherever_the_format_keeps_them(tmp_path: Path) -> None:
    channels = np.stack([phantom(), phantom() + 1000])  # (channel, i, j, k)
    affine = oblique_affine()
    files = [
        write_mgh(tmp_path / "a.mgz", np.moveaxis(channels, 0, -1), affine),
        write_nrrd(tmp_path / "a.nrrd", channels, affine, kinds="vector domain domain domain"),
        write_nrrd(tmp_path / "b.nrrd", channels, affine),
        write_metaimage(tmp_path / "a.mha", channels, affine, ElementNumberOfChannels="2"),
    ]
    for file in files:
        header = read_header(file)
        assert (header.channels, header.shape) == (2, phantom().shape), file.name
        np.testing.assert_array_equal(read_image(file).data, to_canonical(channels, header.geometry))
        np.testing.assert_array_equal(read_image(file, 1).data[0], to_canonical(channels[1], header.geometry))
        np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)


def test_a_header_may_name_only_a_file_beside_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.raw"
    secret.write_bytes(phantom().tobytes())
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("../secret.raw", str(secret), "LIST", "im%03d.raw"):
        assert refused(write_metaimage(folder / "a.mhd", phantom(), oblique_affine(), ElementDataFile=name))
        assert refused(write_nrrd(folder / "a.nhdr", phantom(), oblique_affine(), **{"data file": name}))
    (folder / "b.raw").symlink_to(secret)
    message = refused(write_metaimage(folder / "a.mhd", phantom(), oblique_affine(), ElementDataFile="b.raw"))
    assert "link to another folder" in message


def test_a_series_is_one_volume_whatever_the_names_of_its_files(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine()
    folder = write_series(tmp_path / "series", array, affine, Series(slope=2, intercept=-1000))
    (folder / "README.txt").write_text("not DICOM")
    header = read_header(folder)
    np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(read_image(folder).data[0], to_canonical(array * 2.0 - 1000, header.geometry))
    assert "1 files that are not DICOM are left out" in header.notes
    one = next(folder.glob("*.dcm"))
    np.testing.assert_array_equal(read_image(one).data, read_image(folder).data)


def test_frames_of_one_file_are_ordered_by_their_positions(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine(shear=0.2)
    file = write_multiframe(tmp_path / "enhanced.dcm", array, affine, order=[3, 0, 6, 2, 1, 5, 4])
    header = read_header(file)
    np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(read_image(file).data[0], to_canonical(array * 2.0 - 7, header.geometry))


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


def test_a_label_map_is_written_in_the_geometry_of_its_image(tmp_path: Path) -> None:
    array, affine = phantom(), oblique_affine()
    sources = [
        write_mgh(tmp_path / "a.mgz", array, affine),
        write_nrrd(tmp_path / "a.nrrd", array, affine),
        write_metaimage(tmp_path / "a.mha", array, affine),
        write_series(tmp_path / "series", array, affine),
    ]
    for number, source in enumerate(sources):
        image = read_image(source)
        values = (image.data[0] > 20).astype(np.uint8)
        written = tmp_path / f"{number}.nii.gz"
        write_label(written, values, image, like=source)
        np.testing.assert_array_equal(read_label(written).data[0], values)
        stored = nib.load(written)
        np.testing.assert_allclose(stored.affine, affine, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(stored.dataobj), array > 20)


def test_a_changed_file_is_decoded_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    file = write_mgh(tmp_path / "a.mgz", phantom(), oblique_affine())
    before = read_header(file).data_path
    assert read_header(file).data_path == before
    write_mgh(file, phantom() + 1, oblique_affine())
    os.utime(file, ns=(1, 2))
    assert read_header(file).data_path != before
    np.testing.assert_array_equal(np.sort(read_image(file).data.ravel()), np.sort((phantom() + 1).ravel()))


def test_voxels_that_were_removed_from_the_cache_are_decoded_again(tmp_path: Path) -> None:
    file = write_mgh(tmp_path / "a.mgz", phantom(), oblique_affine())
    header = read_header(file)
    foreign_files.decoded_cache().clear()
    assert not header.data_path.exists()
    np.testing.assert_array_equal(np.sort(read_image(file).data.ravel()), np.sort(phantom().ravel()))


def test_a_limit_of_the_cache_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_CACHE_GB", "much")
    message = refused(write_mgh(tmp_path / "a.mgz", phantom(), oblique_affine()))
    assert message.endswith("cannot be decoded: SEGMENTARIUM_CACHE_GB: expected a number of GB, got 'much'")


def test_a_damaged_entry_of_the_cache_is_replaced(tmp_path: Path) -> None:
    file = write_mgh(tmp_path / "a.mgz", phantom(), oblique_affine())
    entry = read_header(file).data_path.parent
    (entry / "header.json").write_text(json.dumps({"shape": [1]}))
    assert_phantom(file, phantom(), oblique_affine())


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mgz", b"", "an empty file"),
        ("a.mgz", b"\0\0\0\1" + bytes(60), "284 bytes"),
        ("a.mgh", b"\0\0\0\2" + bytes(400), "version 1, got 2"),
        ("a.nrrd", b"NRRD0004\ntype: block\nsizes: 1 1 1\n\n", "one number per voxel"),
        ("a.nrrd", b"nothing", "NRRD header"),
        ("a.nrrd", b"NRRD0004\ntype: short\nsizes: 900 900 900\nencoding: raw\n\nabc", "far fewer"),
        ("a.nrrd", b"NRRD0004\ntype: short\nsizes: -3 9 9\nencoding: raw\n\nabc", "at least 1"),
        ("a.mha", b"NDims = 3\n", "MetaImage header"),
        ("a.dcm", b"\0" * 200, "DICOM"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason in refused(tmp_path / name)


def test_a_missing_library_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SimpleITK.py").write_text("raise ModuleNotFoundError('no', name='SimpleITK')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(foreign_files, "_decoder", JsonLinesChild(foreign_files._start_decoder))
    file = write_nrrd(tmp_path / "a.nrrd", phantom(), oblique_affine())
    assert "SimpleITK" in refused(file) and "pip install -r requirements-formats.txt" in refused(file)
