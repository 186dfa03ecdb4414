"""Labels in the viewer in a real browser: hatching of ignored voxels, colours of many classes."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from core.colours import rgb
from core.datasets import open_dataset
from tests.browser.conftest import Server
from tests.support.balls import SHAPE
from tests.support.ignored import SLAB, write_ignored_balls
from tests.support.viewers import Pane, open_menu, pane, settle, wait_until_ready

pytestmark = pytest.mark.browser

SIDE = 48  # voxels of the volume with many classes
CLASSES = 24
DIFFERENT = """(c, [other, x, y, width, height]) => {
    const scale = c.width / c.clientWidth, o = c.getRootNode().querySelector(other);
    const read = (k) => k.getContext('2d').getImageData(x * scale, y * scale, width * scale, height * scale).data;
    const a = read(c), b = read(o);
    let count = 0;
    for (let p = 0; p < a.length; p += 4) if (Math.abs(a[p] - b[p]) > 12) count++;
    return count / (a.length / 4);
}"""


def open_data(server: Server, page: Page, name: str) -> None:
    page.goto(f"{server.url}/data?data={name}")
    page.get_by_text("Slice by slice").click()
    wait_until_ready(page)
    pane(page, "axial", "image").canvas.focus()
    page.keyboard.press("x")  # no crosshair
    settle(page)


def changed(shown: Pane, rows: slice) -> float:
    """Share of the pixels of an axial slice, in rows of voxels from the top, that differ from the pane of the image."""
    x, y, sx, sy = shown.at
    box = [x + 2 * sx, y + (rows.start + 0.5) * sy, (SHAPE[0] - 4) * sx, (rows.stop - rows.start - 1) * sy]
    return float(shown.canvas.evaluate(DIFFERENT, ["canvas.pane[data-plane=axial][data-row=image]", *box]))


@pytest.mark.long
def test_ignored_voxels_are_hatched_and_can_be_hidden(server: Server, page: Page) -> None:
    if not (server.data / "ignored").exists():
        write_ignored_balls(server.data / "ignored")
    open_data(server, page, "ignored")
    canvas = pane(page, "axial", "image").canvas
    canvas.press("Home")  # a slice without a ball
    settle(page)
    truth, ignored, annotated = pane(page, "axial", "truth"), slice(SHAPE[1] - SLAB, SHAPE[1]), slice(3, 12)
    for key in ("f", "o", "b"):
        canvas.press(key)
        settle(page)
        assert changed(truth, annotated) == 0 and 0.15 < changed(truth, ignored) < 0.75, key
    chip = page.locator(".legend button", has_text="ignore")
    expect(chip).to_have_attribute(
        "title", "left out of training and scores; show or hide; Alt and a click or Enter: show only this"
    )
    chip.click()
    settle(page)
    assert changed(truth, ignored) == 0
    chip.click()
    canvas.press("f")
    for _ in range(SHAPE[1]):
        pane(page, "coronal", "image").canvas.press("ArrowDown")
    settle(page)
    expect(page.locator(".readout")).to_contain_text("ignore (left out)")


def write_many_classes(server: Server) -> None:
    """A row of cubes with values beyond 255, one per class, in four cases."""
    folder, training = server.data / "many", []
    image = np.random.default_rng(0).normal(40, 5, (SIDE, SIDE, 8)).astype(np.float32)
    label = np.zeros(image.shape, np.int16)
    for n in range(CLASSES):
        label[8 * (n % 6) : 8 * (n % 6) + 6, 8 * (n // 6) : 8 * (n // 6) + 6, 2:6] = 1000 + n
    image[label > 0] += 30
    for case in range(4):
        for part, array in (("imagesTr", image + case), ("labelsTr", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / part / f"case_{case}.nii.gz")
        training.append({k: f"./{p}/case_{case}.nii.gz" for k, p in (("image", "imagesTr"), ("label", "labelsTr"))})
    labels = {"0": "background", **{str(1000 + n): f"region {n}" for n in range(CLASSES)}}
    content = {"name": "Many", "modality": {"0": "M"}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")


@pytest.mark.long
def test_every_class_of_many_has_its_own_colour_in_overlay_and_legend(server: Server, page: Page) -> None:
    if not (server.data / "many").exists():
        write_many_classes(server)
    open_data(server, page, "many")
    open_menu(page, "Overlay")
    page.get_by_role("slider", name="Opacity").fill("1")
    page.keyboard.press("Escape")  # closes the menu
    settle(page)
    truth = pane(page, "axial", "truth")
    expected = [rgb(c.colour) for c in open_dataset(server.data / "many").labels.foreground]
    seen = [truth.voxel_colour(SIDE - 1 - (8 * (n % 6) + 3), SIDE - 1 - (8 * (n // 6) + 3)) for n in range(CLASSES)]
    np.testing.assert_allclose(seen, expected, atol=3)
    assert len(set(expected)) == CLASSES
    swatches = page.locator(".legend button i").evaluate_all("all => all.map(i => i.style.background)")
    assert swatches == [f"rgb({r}, {g}, {b})" for r, g, b in expected]
