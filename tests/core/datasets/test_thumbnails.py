"""Thumbnails: radiological convention, true proportions, colours of the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.datasets.contact_sheet import SHEET
from core.datasets.layouts.iseg import LABELS
from core.datasets.thumbnails import GAP, HEIGHT, render_thumbnail, thumbnail_name, write_thumbnail
from core.errors import DatasetError
from core.imaging.geometry import Geometry
from core.labels import IGNORE_INDEX, LabelSpace

SPACE = LabelSpace.from_raw(LABELS)
GEOMETRY = Geometry((20, 30, 10), np.diag([2.0, 1.0, 1.0, 1.0]))


def bright_corner(i: slice, j: slice) -> np.ndarray:
    image = np.full(GEOMETRY.shape, 10, np.float32)
    image[i, j] = 100
    return image


def halves(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = (rgb.shape[1] - GAP) // 2
    return rgb[:, :width], rgb[:, width + GAP :]


def test_thumbnail_is_in_radiological_convention() -> None:
    right_front = bright_corner(slice(15, None), slice(22, None))  # i and j grow to Right and Anterior
    left, right = halves(render_thumbnail(right_front, None, GEOMETRY, SPACE))
    assert np.array_equal(left, right)
    assert left[:30, :30].mean() > 250 and left[-30:].mean() < 5 and left[:, -30:].mean() < 5
    unknown = Geometry(GEOMETRY.shape, GEOMETRY.affine, oriented=False)
    left, _ = halves(render_thumbnail(right_front, None, unknown, SPACE))
    assert left[:30, -30:].mean() > 250 and left[:30, :30].mean() < 5


def test_thumbnail_has_the_proportions_of_the_voxels() -> None:
    rgb = render_thumbnail(bright_corner(slice(5), slice(5)), None, GEOMETRY, SPACE)
    assert rgb.dtype == np.uint8
    left, _ = halves(rgb)
    assert left.shape == (HEIGHT, round(HEIGHT * 40 / 30), 3)
    slab = Geometry((300, 3, 4), np.eye(4))
    assert render_thumbnail(np.ones(slab.shape, np.float32), None, slab, SPACE).shape[1] < 1000


def test_labels_are_coloured_in_the_right_half_only() -> None:
    image = bright_corner(slice(10), slice(None))
    label = np.zeros(GEOMETRY.shape, np.uint8)
    label[10:, :, 7] = 3  # WM in one slice, which is shown
    left, right = halves(render_thumbnail(image, label, GEOMETRY, SPACE))
    assert (left[..., 0] == left[..., 2]).all()
    corner = right[5, 5].astype(int)  # the patient's right, dark in the image
    assert corner[0] > corner[2] + 50 and corner[1] > corner[2] + 50
    assert np.array_equal(right[:, -10:], left[:, -10:])


def test_empty_margins_are_cropped() -> None:
    image = np.zeros((100, 100, 5), np.float32)
    image[40:60, 30:70, :] = 50
    left, _ = halves(render_thumbnail(image, None, Geometry(image.shape, np.eye(4)), SPACE))
    assert left.shape[:2] == (HEIGHT, HEIGHT * 28 // 48)  # 20 x 40 voxels and a margin of 4 on each side
    label = np.zeros(image.shape, np.uint8)
    label[90, 50] = 1  # a label outside the head stays visible
    _, right = halves(render_thumbnail(image, label, Geometry(image.shape, np.eye(4)), SPACE))
    assert (right[..., 2] > right[..., 0].astype(int) + 20).any()


@pytest.mark.parametrize("value", [0, 5, -5])
def test_constant_image_is_rendered(value: float) -> None:
    rgb = render_thumbnail(
        np.full(GEOMETRY.shape, value, np.float32), np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY, SPACE
    )
    assert rgb.shape[0] == HEIGHT


def test_written_thumbnail_is_read_unchanged(tmp_path: Path) -> None:
    rgb = render_thumbnail(bright_corner(slice(5), slice(5)), None, GEOMETRY, SPACE)
    write_thumbnail(tmp_path / "a.png", rgb)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), rgb)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_thumbnail(tmp_path / "none" / "a.png", rgb)


@pytest.mark.parametrize("values", [(1e6,), (1e6, 32767, -1e6)])
def test_outliers_leave_the_picture_as_it_is(values: tuple[float, ...]) -> None:
    """A few bright voxels in a slice with few others: beyond what percentiles leave out."""
    image = np.zeros(GEOMETRY.shape, np.float32)
    image[5:12, 10:18] = np.random.default_rng(0).normal(100, 10, (7, 8, 10))
    plain = render_thumbnail(image, None, GEOMETRY, SPACE)
    for n, value in enumerate(values):
        image[6 + n, 12, 5] = value
    spoilt = render_thumbnail(image, None, GEOMETRY, SPACE)
    assert spoilt.mean() > 0.6 * plain.mean() and spoilt.std() > 0.6 * plain.std()


def test_ignored_voxels_are_hatched_and_choose_no_slice() -> None:
    label = np.zeros(GEOMETRY.shape, np.uint8)
    label[:, :, :4] = IGNORE_INDEX
    label[:, :15, 7], label[:, 15:, 7] = 3, IGNORE_INDEX
    left, right = halves(render_thumbnail(np.ones(GEOMETRY.shape, np.float32), label, GEOMETRY, SPACE))
    changed = (left != right).any(axis=-1)
    ignored, labelled = changed[: HEIGHT // 2 - 3], changed[HEIGHT // 2 + 3 :]
    assert labelled.all() and 0.25 < ignored.mean() < 0.45


def test_every_id_is_a_file_name_of_its_own_and_none_is_that_of_the_contact_sheet() -> None:
    assert thumbnail_name("case 1") == "case 1.png"
    ids = ("site/case", "site%2Fcase", "..", ".hidden", "contact-sheet", "Contact-Sheet", "%63ontact-sheet")
    names = [thumbnail_name(id) for id in ids]
    assert len({name.casefold() for name in (*names, SHEET)}) == len(ids) + 1
    assert not any("/" in name or name.startswith(".") for name in names)
