"""Images of one subject given as files: channels, order, orientation, inference of modalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets import ImageRef
from core.datasets.single_case import group_cases, infer_modalities, modalities_in_filename, read_images
from core.errors import UserError, VolumeError
from tests.support.volume_files import AFFINE, SHAPE, voxels, write_analyze, write_nifti


@pytest.fixture
def three_channels(tmp_path: Path) -> Path:
    """A file of three channels with different intensities."""
    return write_nifti(tmp_path / "all.nii.gz", np.stack([voxels(SHAPE, seed) for seed in range(3)], axis=-1))


def test_channels_are_selected_in_any_order(three_channels: Path) -> None:
    read = read_images([three_channels, three_channels], ("B", "A"), (3, 1))
    for channel, seed in enumerate((2, 0)):
        np.testing.assert_array_equal(read.image[channel], voxels(SHAPE, seed))
    assert read.image.shape == (2, *SHAPE)
    second = read_images([three_channels], ("A",), (2,))
    np.testing.assert_array_equal(second.image[0], voxels(SHAPE, 1))


def test_channels_of_several_files_are_combined(three_channels: Path, tmp_path: Path) -> None:
    other = write_nifti(tmp_path / "other.nii", voxels(SHAPE, 9))
    read = read_images([other, three_channels], ("A", "B"), (1, 2))
    np.testing.assert_array_equal(read.image[0], voxels(SHAPE, 9))
    np.testing.assert_array_equal(read.image[1], voxels(SHAPE, 1))
    assert read.first_image == other


def test_all_channels_of_one_file_are_read_in_order(three_channels: Path) -> None:
    read = read_images([three_channels], ("A", "B", "C"))
    np.testing.assert_array_equal(read.image, np.stack([voxels(SHAPE, seed) for seed in range(3)]))


def test_image_without_orientation_is_read_as_stored(tmp_path: Path) -> None:
    read = read_images([write_analyze(tmp_path / "scan", voxels(), (1, 1.5, 2))], ("A",))
    np.testing.assert_array_equal(read.image[0], voxels())
    assert not read.stored.oriented and read.geometry.spacing_mm == (1, 1.5, 2)


@pytest.mark.parametrize(
    ("times", "channels", "message"),
    [
        (1, (), "expected 2 images in the order A, B, as the network was trained; got 3 channels"),
        (1, (1, 2), "expected one channel for each of 1 images, got 2"),
        (2, (1, 4), "expected a channel from 1 to 3, got 4"),
        (2, (2, 2), "expected another image for each modality, got channel 2 of it for A and for B"),
        (2, (), r"expected one image per file where there are several, got 3 channels.*--channels"),
        (3, (1, 2, 3), "expected 2 images in the order A, B, as the network was trained; got 3 images"),
    ],
)
def test_impossible_files_and_channels_are_refused(
    three_channels: Path, times: int, channels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(VolumeError, match=message):
        read_images([three_channels] * times, ("A", "B"), channels)


def test_the_same_file_for_two_modalities_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = write_nifti(tmp_path / "scan.nii.gz", voxels())
    pair = write_analyze(tmp_path / "pair", voxels())
    (tmp_path / "link.nii.gz").symlink_to(scan)
    monkeypatch.chdir(tmp_path)
    same = "expected another image for each modality, got the same file for A and for B; give the image of B"
    for first, second in (
        (scan, scan),
        (scan, Path("scan.nii.gz")),
        (scan, tmp_path / "link.nii.gz"),
        (pair, pair),
        (pair, pair.with_suffix(".img")),
    ):
        with pytest.raises(VolumeError, match=same):
            read_images([first, second], ("A", "B"))
    with pytest.raises(VolumeError, match="got 2 images"):
        read_images([scan, scan], ("A",))
    with pytest.raises(VolumeError, match="the same file for A and for C"):
        read_images([scan, pair, scan], ("A", "B", "C"))


def test_images_of_different_geometry_are_refused(three_channels: Path, tmp_path: Path) -> None:
    small = write_nifti(tmp_path / "small.nii", voxels((4, 4, 4)))
    with pytest.raises(UserError, match="does not fit the first image"):
        read_images([three_channels, small], ("A", "B"), (1, 1))
    moved = AFFINE + np.eye(4)[:, [3, 3, 3, 0]] * 9
    elsewhere = write_nifti(tmp_path / "elsewhere.nii", voxels(), moved)
    with pytest.raises(UserError, match="does not fit the first image"):
        read_images([three_channels, elsewhere], ("A", "B"), (1, 1))


def test_file_names_that_contradict_the_order_are_refused(tmp_path: Path) -> None:
    t1, t2 = (write_nifti(tmp_path / f"sub-1_{name}.nii.gz", voxels(seed=n)) for n, name in enumerate(("T1", "T2")))
    np.testing.assert_array_equal(read_images([t1, t2], ("T1", "T2")).image[1], voxels(seed=1))
    with pytest.raises(VolumeError, match=r"T1, but its name .* T2; swap them"):
        read_images([t2, t1], ("T1", "T2"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="missing"):
        read_images([tmp_path / "missing.nii.gz"], ("T1",))


def refs(*names: str) -> dict[str, ImageRef]:
    return {name: ImageRef(Path(name)) for name in names}


@pytest.mark.parametrize(
    ("images", "modalities", "expected"),
    [
        (refs("s-T1.nii", "s-T2.nii"), ("T1", "T2"), {"T1": "s-T1.nii", "T2": "s-T2.nii"}),
        (refs("s-t2.hdr", "s-t1.hdr"), ("T1", "T2"), {"T1": "s-t1.hdr", "T2": "s-t2.hdr"}),
        (refs("a.nii", "s_T2.nii"), ("T1", "T2"), {"T2": "s_T2.nii"}),  # no inference by elimination
        (refs("a.nii", "b.nii"), ("T1", "T2"), {}),
        (refs("T1_T2.nii", "b.nii"), ("T1", "T2"), {}),
        (refs("a-T1.nii", "b-T1.nii"), ("T1", "T2"), {}),
        (refs("T1x.nii", "b.nii"), ("T1", "T2"), {}),  # not a separate word
        (refs("anything.nii"), ("T1",), {"T1": "anything.nii"}),
        (refs("anything.nii", "s-T1.nii"), ("T1",), {"T1": "s-T1.nii"}),
        ({"T1": ImageRef(Path("x"), 1), "T2": ImageRef(Path("x"), 0)}, ("T2", "T1"), {"T1": "T1", "T2": "T2"}),
        ({"1": ImageRef(Path("T1.nii"), 0), "2": ImageRef(Path("T1.nii"), 1)}, ("T1", "T2"), {}),
    ],
)  # fmt: skip
def test_modalities_are_inferred_without_doubt_only(
    images: dict[str, ImageRef], modalities: tuple[str, ...], expected: dict[str, str]
) -> None:
    assert infer_modalities(images, modalities) == expected


@pytest.mark.parametrize(
    ("name", "modalities", "found"),
    [
        ("sub-01_T1w.nii.gz", ("T1", "T2"), ("T1",)),
        ("sub-01_T1.nii", ("T1w",), ("T1w",)),
        ("PDw scan.nii", ("PD",), ("PD",)),
        ("sub-T1x.nii", ("T1",), ()),
        ("flow.nii", ("flo",), ()),
        ("Müller_T2.nii", ("T2",), ("T2",)),
    ],
)
def test_weighted_images_have_the_modality_of_bids(
    name: str, modalities: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert modalities_in_filename(Path(name), modalities) == found


def test_images_are_grouped_into_cases_by_names_without_the_modality() -> None:
    names = ["a_T1w.nii", "T2_a.nii", "b-T1.nii.gz", "b-T2.nii.gz", "c_T1.nii", "other.nii"]
    refs = {name: ImageRef(Path(name)) for name in names}
    groups = group_cases(refs, ("T2", "T1"))
    complete = {"a": {"T2": "T2_a.nii", "T1": "a_T1w.nii"}, "b": {"T2": "b-T2.nii.gz", "T1": "b-T1.nii.gz"}}
    assert groups.cases == complete
    assert groups.incomplete == {"c": ("T2",)}
    assert list(group_cases(refs, ("T1",)).cases) == ["a_T1w", "b-T1", "c_T1"], "those that name the modality"
    unnamed = {name: ImageRef(Path(name)) for name in ("x.nii", "y.nii.gz")}
    assert group_cases(unnamed, ("CT",)).cases == {"x": {"CT": "x.nii"}, "y": {"CT": "y.nii.gz"}}
    channels = {f"all, channel {n}": ImageRef(Path("all.nii"), n) for n in (0, 1)}
    assert group_cases(channels, ("CT",)).cases == {}


def test_cases_may_lack_a_modality_where_they_cannot_be_one_subject() -> None:
    def grouped(*names: str) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, ...]]]:
        groups = group_cases({name: ImageRef(Path(name)) for name in names}, ("T1", "T2"), may_lack=True)
        return groups.cases, groups.incomplete

    assert grouped("a_T1.nii", "a_T2.nii", "b_T1.nii") == (
        {"a": {"T1": "a_T1.nii", "T2": "a_T2.nii"}, "b": {"T1": "b_T1.nii"}},
        {},
    )
    assert grouped("a_T2.nii", "b_T2.nii")[0] == {"a": {"T2": "a_T2.nii"}, "b": {"T2": "b_T2.nii"}}
    assert grouped("scan 3_T1.nii", "scan 4_T2.nii") == ({}, {"scan 3": ("T2",), "scan 4": ("T1",)}), "of one subject?"
    twice = grouped("a_T1.nii", "a_T1w.nii", "b_T1.nii", "c_T1.nii")
    assert twice == ({"b": {"T1": "b_T1.nii"}, "c": {"T1": "c_T1.nii"}}, {"a": ("T1",)})


def test_a_modality_without_an_image_is_zero_and_named(tmp_path: Path) -> None:
    t2 = write_nifti(tmp_path / "T2.nii.gz", voxels(SHAPE, 3))
    read = read_images([t2], ("T1", "T2", "PD"), without=("PD", "T1"))
    assert read.absent == ("T1", "PD") and not read.image[[0, 2]].any()
    np.testing.assert_array_equal(read.image[1], voxels(SHAPE, 3))
    with pytest.raises(VolumeError, match=r"expected images in the order T1; this one is in the position of T1, .* T2"):
        read_images([t2], ("T1", "T2"), without=("T2",))
    for without in (("T1", "T2"), ("FLAIR",)):
        with pytest.raises(VolumeError, match="expected some of the modalities T1, T2, but not all"):
            read_images([t2], ("T1", "T2"), without=without)
    with pytest.raises(VolumeError, match=r"expected 1 image in the order T2, .* got 2 images"):
        read_images([t2, write_nifti(tmp_path / "b.nii.gz", voxels())], ("T1", "T2"), without=("T1",))
