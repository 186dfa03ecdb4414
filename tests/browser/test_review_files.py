"""Own files on the Review page in a browser: by upload, with names that are corrected in the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.colours import rgb
from core.labels import PALETTE
from tests.browser.conftest import Server
from tests.support.file_cases import CENTRES, SHAPE, write_case
from tests.support.menus import choose_option
from tests.support.viewers import open_menu, pane, settle, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long(40)]


def test_uploaded_files_are_shown_named_and_scored(server: Server, page: Page, tmp_path: Path) -> None:
    files = write_case(tmp_path)
    (tmp_path / "text.txt").write_text("no image")
    page.goto(f"{server.url}/review?open=files&source=Upload")
    page.locator("input[type=file]").set_input_files([files.image, files.reference, files.segmentation])
    expect(page.get_by_role("button", name="Delete scan.nii.gz")).to_be_visible()
    for label, name in (("Image", "scan.nii.gz"), ("Reference", "drawn.nii.gz"), ("Segmentation", "found.nii.gz")):
        choose_option(page.get_by_role("combobox", name=label), name)
        if label == "Image":
            page.keyboard.press("Escape")  # its menu stays open for more images; a select box would be cleared
    wait_until_ready(page)
    expect(page.get_by_text("lies where the segmentation has label 1: Dice")).to_be_visible(timeout=120_000)
    table = page.locator(".stDataFrameGlideDataEditor").first
    box = table.bounding_box()
    assert box is not None
    for row, value in ((2, "label 10"), (3, "label 150")):  # the rows of the segmentation, below two and the header
        table.dblclick(position={"x": box["width"] - 40, "y": box["height"] * (row + 1.5) / 5})
        field = page.locator("#portal textarea")
        field.fill(value)
        field.press("Enter")
        expect(field).to_have_count(0)
    expect(page.get_by_text("lies where the segmentation has label 1: Dice")).to_have_count(0, timeout=120_000)
    expect(page.get_by_role("button", name="next error")).to_be_visible(timeout=120_000)
    expect(page.locator(".root").get_by_text("label 2", exact=True)).to_have_count(0, timeout=120_000)  # legend
    wait_until_ready(page)
    open_menu(page, "Overlay")
    page.get_by_role("slider", name="Opacity").fill("1")
    page.keyboard.press("Escape")
    shown = pane(page, "axial", "prediction")
    settle(page)
    i, j, _ = CENTRES[1]
    colour = shown.voxel_colour(SHAPE[0] - 1 - i, SHAPE[1] - 1 - j)
    assert colour == pytest.approx(rgb(PALETTE[1]), abs=3)
    page.reload()
    wait_until_ready(page)
    expect(page.get_by_role("button", name="Delete scan.nii.gz")).to_be_visible()
