"""What people do with the viewer in a real browser: scroll the page past it, read positions, set windows, save
pictures, use fingers, go to full screen."""

from __future__ import annotations

import math
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import TIMEOUT_MS, Server
from tests.browser.test_viewer import SHAPE, open_case
from tests.browser.test_viewer_content import bright_label, open_image, structure
from tests.support.viewers import open_menu, pane, rest_pointer, settle, voxel

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MAIN = "document.querySelector('[data-testid=stMain]')"
ANGLE_DEG = 44


def scrolled(page: Page) -> float:
    return float(page.evaluate(f"{MAIN}.scrollTop"))


def turn_wheel(page: Page, delta_y: int) -> None:
    """Turn the wheel and wait until a scroll of the page would have begun."""
    page.mouse.wheel(0, delta_y)
    settle(page)


@pytest.mark.long
def test_wheel_belongs_to_the_page_until_the_pointer_rests_on_a_pane(server: Server, page: Page) -> None:
    page.set_viewport_size({"width": 1440, "height": 420})
    open_case(server, page, "las")
    page.evaluate(f"{MAIN}.style.paddingBottom = '1500px'")  # below the viewer the page goes on
    axial = pane(page, "axial", "image")
    page.evaluate(f"{MAIN}.scrollTop = 0")
    page.mouse.move(200, 380)
    before = voxel(page)
    for _ in range(60):  # the figure passes under the pointer, which does not move
        page.mouse.wheel(0, 60)
        settle(page)
    page.wait_for_function(f"{MAIN}.scrollTop > 700")
    assert voxel(page) == before, "one scrolls past a figure"
    rest_pointer(axial)
    place = scrolled(page)
    turn_wheel(page, -100)
    assert voxel(page)[2] == before[2] + 1 and scrolled(page) == place, "the pane takes it"
    for _ in range(SHAPE[2] + 40):
        page.mouse.wheel(0, 100)
        settle(page)
        if scrolled(page) > place:
            break
    assert voxel(page)[2] == 0 and scrolled(page) > place, "at the last slice the page scrolls on"
    axial.canvas.focus()
    page.mouse.move(5, 200)
    pause = page.evaluate("performance.now() + 450")
    page.wait_for_function("end => performance.now() > end", arg=pause)  # the next turn of the wheel is a new one
    box = axial.canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    turn_wheel(page, -100)
    assert voxel(page)[2] == 1, "the pane with the focus takes it at once"


def write_tilted_ct(server: Server, page: Page) -> np.ndarray:
    """Open a computed tomography that is oblique by 44 degrees and stored from left to right reversed."""
    turn = np.deg2rad(ANGLE_DEG)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[0, 0] = -1
    image = structure(0, 300).round() - 0.0
    image[image == 0] = -1000
    open_image(server, page, "tilted-ct", image, bright_label(), affine)
    return affine


@pytest.mark.long
def test_readout_windows_scale_bar_and_pictures(server: Server, page: Page, tmp_path: Path) -> None:
    affine = write_tilted_ct(server, page)
    file = nib.load(server.data / "tilted-ct" / "imagesTr" / "a.nii.gz")
    field, axial = page.get_by_role("textbox", name="Go to coordinates"), pane(page, "axial", "image")
    frames, message = page.get_by_role("group", name="Frame of the coordinates"), page.locator(".goto .message")
    axial.canvas.focus()
    page.keyboard.press("g")
    expect(field).to_be_focused()
    frames.get_by_role("button", name="file index").click()
    field.fill("30, 31 18")
    field.press("Enter")
    i, j, k = voxel(page)
    assert (i, j, k) == (file.shape[0] - 1 - 30, 31, 18), "canonical order reverses the first axis"
    readout = page.locator(".readout")
    expect(readout).to_contain_text(f"RAS voxel (from 1){i + 1}, {j + 1}, {k + 1}")
    mm = affine @ [30, 31, 18, 1]
    expect(readout).to_contain_text(f"RAS mm{mm[0]:.1f}, {mm[1]:.1f}, {mm[2]:.1f}")
    expect(readout).to_contain_text("file index (from 0)30, 31, 18")
    expect(readout).to_contain_text(f"M{int(np.asarray(file.dataobj)[30, 31, 18])}")
    expect(readout).to_contain_text(f"axesoblique {ANGLE_DEG}°")
    frames.get_by_role("button", name="RAS mm").click()
    mm = affine @ [33, 20, 10, 1]
    field.fill(f"{mm[0]:.2f}; {mm[1]:.2f}; {mm[2]:.2f}")
    field.press("Enter")
    assert voxel(page) == (file.shape[0] - 1 - 33, 20, 10)
    field.fill("1000 0 0")
    field.press("Enter")
    expect(message).to_contain_text("Outside of the volume")
    field.fill("1, 2")
    field.press("Enter")
    expect(message).to_contain_text("Expected three numbers")

    page.get_by_text("Window", exact=True).click()
    page.get_by_role("button", name="lung", exact=True).click()
    low, high = (page.get_by_role("spinbutton", name=f"{side} at, typed") for side in ("black", "white"))
    expect(low).to_have_value("-1350")
    expect(high).to_have_value("150")
    low.fill("200")
    low.press("Enter")
    expect(page.get_by_text("Expected black below white.")).to_be_visible()
    low.fill("-50")
    low.press("Enter")
    expect(low).to_have_value("-50")
    expect(page.get_by_text("Expected black below white.")).to_be_hidden()
    page.get_by_role("spinbutton", name="upper percentile").fill("50")
    page.get_by_role("button", name="use", exact=True).click()
    expect(high).not_to_have_value("150")
    inside = np.asarray(file.dataobj)
    assert float(high.input_value()) == pytest.approx(np.percentile(inside[inside > -1000], 50), abs=1)
    page.get_by_text("Window", exact=True).click()

    length, pixels = str(axial.canvas.get_attribute("data-scale")).split(", ")
    assert float(pixels.split()[0]) / float(length.split()[0]) == pytest.approx(axial.at[2], rel=0.01)
    axial.canvas.focus()
    page.keyboard.press("h")
    shown, place = pane(page, "axial", "truth").canvas, f"axial slice {voxel(page)[2] + 1} of {file.shape[2]}"
    expect(shown).to_have_attribute("aria-label", f"{place}, reference hidden")
    page.keyboard.press("h")
    page.get_by_role("button", name="block", exact=True).click()
    expect(shown).to_have_attribute("aria-label", f"{place}, reference, block hidden")
    open_menu(page, "More")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this view as a picture").click()
    assert download.value.suggested_filename.endswith(f"axial-{voxel(page)[2] + 1}.png")
    download.value.save_as(tmp_path / "view.png")
    stage = page.locator(".stage").bounding_box()
    assert stage is not None and Image.open(tmp_path / "view.png").width == pytest.approx(stage["width"], abs=12)

    before = axial.canvas.bounding_box()
    axial.canvas.focus()
    page.keyboard.press("s")
    page.wait_for_function("document.fullscreenElement !== null")
    settle(page)
    during = axial.canvas.bounding_box()
    assert before and during and during["width"] > before["width"]
    page.keyboard.press("s")
    page.wait_for_function("document.fullscreenElement === null")
    settle(page)
    after = axial.canvas.bounding_box()
    assert after and (after["width"], after["height"]) == (before["width"], before["height"])


def test_controls_are_one_stop_of_the_tab_key(server: Server, page: Page) -> None:
    open_case(server, page, "las")
    page.get_by_role("button", name="image", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="reference", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("canvas.pane").first).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="reference", exact=True)).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("summary").get_by_text("Classes", exact=True)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="box", exact=True)).to_be_focused()  # the legend
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="image", exact=True)).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="image", exact=True)).to_be_focused()


def test_menu_of_the_toolbar_is_opened_and_closed_by_keys_and_mouse(server: Server, page: Page) -> None:
    open_case(server, page, "las")
    menu, opacity = page.locator("summary").get_by_text("Overlay", exact=True), page.get_by_label("Opacity")
    menu.focus()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="fill", exact=True)).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(opacity).to_be_focused()
    before = float(opacity.input_value())
    page.keyboard.press("ArrowDown")
    assert float(opacity.input_value()) < before
    page.keyboard.press("Escape")
    expect(opacity).to_be_hidden()
    expect(menu).to_be_focused()
    menu.click()
    expect(opacity).to_be_visible()
    open_menu(page, "Window")
    expect(opacity).to_be_hidden()
    page.locator("canvas.pane").first.click()
    expect(page.get_by_role("button", name="reset window")).to_be_hidden()


@pytest.mark.parametrize("width", [1440, 800])
def test_toolbar_is_one_row_whose_rest_is_in_a_menu(server: Server, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    open_case(server, page, "las")
    bar = page.locator(".bar").first
    assert int(bar.evaluate("bar => bar.clientHeight")) < 30
    drag = page.get_by_role("group", name="Drag")
    open_menu(page, "More")
    drag.get_by_role("button", name="ruler").click()
    expect(drag.get_by_role("button", name="ruler")).to_have_attribute("aria-pressed", "true")
    page.set_viewport_size({"width": 2600, "height": 1000})
    page.keyboard.press("Escape")
    expect(drag).to_be_visible()  # there is room for it


def test_panes_become_narrower_with_the_window(server: Server, page: Page) -> None:
    open_case(server, page, "las")
    page.set_viewport_size({"width": 800, "height": 1000})
    sideways = "panes => panes.some(pane => pane.getBoundingClientRect().right > innerWidth)"
    expect(page.get_by_role("button", name="Full screen")).to_be_in_viewport()
    settle(page)
    assert not page.locator("canvas.pane").evaluate_all(sideways)


@pytest.mark.long
def test_fingers_scroll_zoom_and_leave_the_page_its_own(server: Server, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_case(server, page, "las")
    page.get_by_role("button", name="axial", exact=True).tap()
    axial = pane(page, "axial", "image")
    axial.canvas.scroll_into_view_if_needed()
    cdp = context.new_cdp_session(page)

    def touch(*fingers: list[tuple[float, float]]) -> None:
        """Move fingers along paths of one length, and lift them."""
        for n, points in enumerate(zip(*fingers, strict=True)):
            places = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
            cdp.send("Input.dispatchTouchEvent", {"type": "touchMove" if n else "touchStart", "touchPoints": places})
            settle(page)
        cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        settle(page)

    box = axial.canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before, place = voxel(page), scrolled(page)
    touch([(x, y + 30 - 6 * n) for n in range(11)])
    after = voxel(page)
    assert after[2] > before[2] and after[:2] == before[:2] and scrolled(page) == place, "a finger moves through slices"
    touch([(x + 30, y + 10)])
    assert voxel(page)[:2] != before[:2] and voxel(page)[2] == after[2], "a tap moves the crosshair"
    page.get_by_role("group", name="One finger").get_by_role("button", name="crosshair").tap()
    here = voxel(page)
    touch([(x, y + 30 - 6 * n) for n in range(11)])
    assert voxel(page)[2] == here[2] and voxel(page)[:2] != here[:2], "the switch gives the finger to the crosshair"
    page.get_by_role("group", name="One finger").get_by_role("button", name="ruler").tap()
    here = voxel(page)
    touch([(x - 10 + 2 * n, y + 30 - 6 * n) for n in range(11)])
    mm, pixels = (float(n) for n in re.findall(r"[\d.]+", str(axial.canvas.get_attribute("data-scale"))))
    length = float(re.findall(r"[\d.]+", page.locator(".measured").inner_text())[0])
    assert length == pytest.approx(math.hypot(20, 60) * mm / pixels, abs=0.1), "the finger draws with a tool"
    assert voxel(page) == here
    page.get_by_role("group", name="One finger").get_by_role("button", name="slices").tap()
    expect(page.locator(".measured")).to_be_hidden()
    scale = axial.at[2]
    touch([(x - 20 - 4 * n, y) for n in range(8)], [(x + 20 + 4 * n, y) for n in range(8)])
    assert axial.at[2] > 1.5 * scale, "two fingers zoom"
    moved = axial.at[0]
    touch([(x - 20 + 4 * n, y) for n in range(8)], [(x + 20 + 4 * n, y) for n in range(8)])
    assert axial.at[0] == pytest.approx(moved + 28, abs=2), "and move"
    touch([(20, y - 60 + 12 * n) for n in range(11)])
    page.wait_for_function(f"place => {MAIN}.scrollTop < place", arg=place)  # beside the pane the page scrolls
    width = int(axial.canvas.evaluate("c => c.width"))
    metrics = {"width": 390, "height": 700, "deviceScaleFactor": 2.5, "mobile": True}
    cdp.send("Emulation.setDeviceMetricsOverride", metrics)
    page.wait_for_function("devicePixelRatio === 2.5")
    axial.canvas.press("End")
    settle(page)
    assert int(axial.canvas.evaluate("c => c.width")) == pytest.approx(2.5 * width, abs=3), "as sharp as the screen"
    assert errors == []
    context.close()
