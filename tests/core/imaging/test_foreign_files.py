"""MGH, NRRD and MetaImage against phantoms with known voxels, orientation and spacing; the cache of decoded images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.imaging import foreign_files
from core.imaging.geometry import to_canonical
from core.imaging.volume import read_header, read_image, read_label, write_label
from core.library_versions import installed_versions
from core.processes import ExceededLimit, JsonLinesChild, LimitExceededError, ProcessLimits
from tests.support.foreign_volumes import (
    LPS,
    assert_phantom,
    oblique_affine,
    phantom,
    refused,
    write_metaimage,
    write_mgh,
    write_multiframe,
    write_nrrd,
    write_series,
)

Writer = Callable[..., Path]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_decoded_cache")]


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


def test_a_file_is_decoded_again_by_another_version_of_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_mgh(tmp_path / "a.mgz", phantom(), oblique_affine())
    before = read_header(file).data_path
    try:
        with monkeypatch.context() as changed:
            changed.setattr(metadata, "version", lambda name: "99")
            installed_versions.cache_clear()
            assert read_header(file).data_path != before
    finally:
        installed_versions.cache_clear()
    assert read_header(file).data_path == before


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


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (ExceededLimit("more than 5 s of processor time"), "takes more than 5 s of processor time; is it damaged?"),
        (ExceededLimit("longer than 60 s", is_waiting=True), "takes longer than 60 s; its disk does not answer, or"),
    ],
)
def test_the_message_says_which_limit_was_hit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: ExceededLimit, text: str
) -> None:
    def ask(request: object, limits: Callable[[bool], ProcessLimits]) -> None:
        assert limits(True).start_s > 0 and not limits(False).start_s
        raise LimitExceededError(limit)

    monkeypatch.setattr(foreign_files._decoder, "ask", ask)
    file = write_mgh(tmp_path / "a.mgh", phantom(), oblique_affine())
    assert f"{file}: decoding it {text}" in refused(file)


def test_a_file_may_take_longer_by_its_size_its_frames_and_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def ask(request: object, limit: Callable[[bool], ProcessLimits]) -> None:
        limits.append(limit(False).cpu_s)
        raise LimitExceededError(ExceededLimit("more"))

    monkeypatch.setattr(foreign_files._decoder, "ask", ask)
    refused(write_mgh(tmp_path / "a.mgh", phantom(), oblique_affine()))
    refused(write_series(tmp_path / "series", phantom((4, 4, 20)), oblique_affine()))
    (tmp_path / "frames").mkdir()
    refused(write_multiframe(tmp_path / "frames" / "a.dcm", phantom((2, 2, 100)), oblique_affine()))
    assert limits == [pytest.approx(s, abs=0.1) for s in (5, 7, 6.1)]
