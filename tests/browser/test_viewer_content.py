"""The viewer in a real browser: outliers, true values in the readout, and labels outside of the image's content."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from core.types import VoxelIndex
from tests.browser.conftest import Server
from tests.support.viewers import coloured_pixels, pane, settle, voxel, wait_until_ready

pytestmark = pytest.mark.browser

SHAPE = (64, 64, 40)
BRIGHT = (slice(28, 36), slice(28, 36), slice(16, 24))
CORNERS = (96, 96, 64)
STRAIGHT = np.eye(4)


def structure(low: float, high: float) -> np.ndarray:
    """Air of 0, a ball of noise around ``low``, a block around ``high``."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    noise = np.random.default_rng(0).normal(0, 0.05 * (high - low), SHAPE)
    image = np.where((grid**2).sum(0) < 0.9, low + noise, 0)
    image[BRIGHT] = high + noise[BRIGHT]
    return image.astype(np.float32)


def open_image(
    server: Server, page: Page, name: str, image: np.ndarray, label: np.ndarray, affine: np.ndarray = STRAIGHT
) -> None:
    """Write a data set of one image, and open it on the page Data."""
    folder: Path = server.data / name
    for part, array in (("imagesTr", image), ("labelsTr", label)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), folder / part / "a.nii.gz")
    content = {
        "name": name,
        "modality": {"0": "M"},
        "labels": {"0": "background", "1": "block"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    page.goto(f"{server.url}/data?data={name}")
    page.get_by_text("Slice by slice").click()
    wait_until_ready(page)


def bright_label() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[BRIGHT] = 1
    return label


def go_to(page: Page, target: VoxelIndex) -> None:
    """Move the crosshair to a voxel, by its field."""
    page.locator(".goto input").fill(", ".join(str(n + 1) for n in target))
    page.keyboard.press("Enter")
    assert voxel(page) == target


def expect_intensity(page: Page, value: float) -> None:
    """Wait until the readout shows an intensity, to six digits."""
    shown = str(int(value)) if float(value).is_integer() else str(float(f"{value:.6g}"))
    expect(page.locator(".readout span").nth(3)).to_have_text(f"M{shown}")


def greys(page: Page) -> tuple[float, float, float]:
    """Grey of the block, of the ball around it, and of the air, in the axial pane of the image."""
    shown = pane(page, "axial", "image")
    block, ball, air = (shown.voxel_colour(*at)[0] for at in ((32, 32), (20, 32), (60, 3)))
    return block, ball, air


@pytest.mark.long
@pytest.mark.parametrize("outliers", [(), (1e6,), (1e6, -1e6, 5e5)])
def test_outliers_leave_the_panes_as_they_are_and_the_readout_shows_true_values(
    server: Server, page: Page, outliers: tuple[float, ...]
) -> None:
    image = structure(0.4, 0.8)
    for n, value in enumerate(outliers):
        image[2, 3 + n, 4] = value
    open_image(server, page, f"fraction{len(outliers)}", image, bright_label())
    page.get_by_role("button", name="image", exact=True).first.wait_for()
    pane(page, "axial", "image").canvas.focus()
    page.keyboard.press("x")
    go_to(page, (33, 30, 20))
    block, ball, air = greys(page)
    assert block > 200 and 60 < ball < 170 and air < 30
    expect_intensity(page, float(image[33, 30, 20]))
    assert coloured_pixels(pane(page, "axial", "truth")) > 100
    for n, value in enumerate(outliers):
        go_to(page, (2, 3 + n, 4))
        expect_intensity(page, value)


@pytest.mark.long
def test_ct_with_an_outlier_is_read_in_steps_of_1_hu(server: Server, page: Page) -> None:
    image = structure(0, 300).round() - 0.0
    image[image == 0] = -1000
    image[2, 3, 4] = 300_000
    open_image(server, page, "ct", image, bright_label())
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    for k in (18, 19, 20):
        go_to(page, (33, 30, k))
        expect_intensity(page, float(image[33, 30, k]))
    go_to(page, (2, 3, 4))
    expect_intensity(page, 300_000)
    assert requested == [], "all values are in the browser"


def labelled_corners(server: Server, page: Page) -> None:
    image, label = np.zeros(CORNERS, np.float32), np.zeros(CORNERS, np.uint8)
    image[40:56, 40:56, 24:40] = np.random.default_rng(0).normal(100, 10, (16, 16, 16))
    label[:3, :3, :3] = label[-3:, -3:, -3:] = 1
    open_image(server, page, "corners-outside", image, label)


@pytest.mark.long
def test_labels_outside_of_the_image_are_in_the_panes(server: Server, page: Page) -> None:
    labelled_corners(server, page)
    for plane in ("axial", "coronal", "sagittal"):
        assert coloured_pixels(pane(page, plane, "truth")) > 4, plane


def extent(page: Page, plane: str, columns: int, rows: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a slice relative to its pane, in CSS pixels; and negative outside of it."""
    shown = pane(page, plane, "image")
    x, y, sx, sy = shown.at
    width, height = (int(shown.canvas.evaluate(f"c => c.client{side}")) for side in ("Width", "Height"))
    return x, y, width - x - columns * sx, height - y - rows * sy


@pytest.mark.long
def test_key_a_shows_the_whole_grid_and_0_the_content(server: Server, page: Page) -> None:
    image, label = np.zeros(CORNERS, np.float32), np.zeros(CORNERS, np.uint8)
    image[40:56, 40:56, 24:40] = np.random.default_rng(0).normal(100, 10, (16, 16, 16))
    label[44:50, 44:50, 28:34] = 1
    open_image(server, page, "small-content", image, label)
    axial = pane(page, "axial", "image")
    content = axial.at
    assert min(extent(page, "axial", 96, 96)) < 0, "the content fills the pane"
    axial.canvas.focus()
    page.keyboard.press("a")
    settle(page)
    for plane, columns, rows in (("axial", 96, 96), ("coronal", 96, 64), ("sagittal", 96, 64)):
        assert min(extent(page, plane, columns, rows)) >= -1, plane
    page.keyboard.press("0")
    settle(page)
    assert axial.at == content
    page.keyboard.press("-")
    settle(page)
    assert min(extent(page, "axial", 96, 96)) >= -1, "zooming out of the content shows the whole grid"
    page.keyboard.press("a")
    settle(page)
    assert axial.at == content


@pytest.mark.long
def test_readout_names_sheared_axes_with_their_angle_and_shows_small_voxels_in_mm(server: Server, page: Page) -> None:
    affine = np.diag([0.01, 0.01, 0.05, 1])
    affine[1, 2] = 0.05 * np.tan(np.deg2rad(30))
    open_image(server, page, "tilted", structure(0.4, 0.8), bright_label(), affine)
    readout = page.locator(".readout span")
    expect(readout.nth(3)).to_have_text("axessheared 30°")
    i, j, k = voxel(page)
    at = affine @ [i, j, k, 1]
    expect(readout.nth(1)).to_have_text(f"RAS mm{at[0]:.3f}, {at[1]:.3f}, {at[2]:.3f}")
