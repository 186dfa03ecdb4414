"""Several modalities at once in the viewer in a real browser: rows, windows of their own, keys, streamed images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from core.imaging.display import channels
from tests.browser.conftest import Server
from tests.browser.test_streamed_volumes import StreamingServer, wait_for_slices
from tests.support.accessibility import findings
from tests.support.viewers import READY_MS, Pane, open_menu, settle, wait_until_ready

pytestmark = pytest.mark.browser

SHAPE = (24, 22, 16)
NAMES = ("T1", "T2", "FLAIR")
AT = (6, 7, 8)  # of the case; the crosshair is elsewhere
MENU = "Modalities at the same time"


def modality(number: int) -> np.ndarray:
    """Intensities of a modality: a ramp along an axis of its own, around a box."""
    image = np.zeros(SHAPE, np.float32)
    inside = tuple(slice(2, -2) for _ in SHAPE)
    image[inside] = 100.0 * (number + 1) + 20 * np.indices(SHAPE)[number][inside]
    return image


def write_case(folder: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    label = np.zeros(SHAPE, np.uint8)
    label[10:14, 9:13, 6:10] = 1
    nib.save(
        nib.Nifti1Image(np.stack([modality(n) for n in range(3)], -1), np.eye(4)), folder / "imagesTr" / "a.nii.gz"
    )
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / "a.nii.gz")
    content = {
        "name": "several",
        "modality": {str(n): name for n, name in enumerate(NAMES)},
        "labels": {"0": "background", "1": "block"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")


def open_case(server: Server, page: Page) -> None:
    """The axial slices of the case on Data at the voxel above ``AT``, without crosshair."""
    if not (server.data / "several").exists():
        write_case(server.data / "several")
    page.goto(f"{server.url}/data?data=several")
    page.get_by_text("Slice by slice").click(timeout=READY_MS)  # the first page of a server that has just started
    wait_until_ready(page)
    page.get_by_role("group", name="Planes").get_by_role("button", name="axial").click()
    page.locator(".goto input").fill(f"{AT[0] + 6}, {AT[1] + 6}, {AT[2] + 1}")
    page.keyboard.press("Enter")
    row(page, "image").canvas.focus()
    page.keyboard.press("x")
    settle(page)


def row(page: Page, name: str) -> Pane:
    return Pane(page.locator(f"canvas.pane[data-plane=axial][data-row='{name}']"))


def further(page: Page, name: str) -> Pane:
    return row(page, f"modality {name}")


def grey_at(shown: Pane) -> int:
    """Grey of the voxel ``AT``; patient's right is on the left, anterior at the top."""
    red, green, blue = shown.voxel_colour(SHAPE[0] - 1 - AT[0], SHAPE[1] - 1 - AT[1])
    assert red == green == blue
    return red


def expected_grey(number: int, window: tuple[float, float] | None = None) -> int:
    (channel,) = channels(modality(number)[None], [NAMES[number]])
    low, high = window or channel.window
    return round(255 * min(1.0, max(0.0, (float(modality(number)[AT]) - low) / (high - low))))


def boxes(page: Page) -> Locator:
    return page.get_by_role("group", name="A row for each modality").get_by_role("checkbox")


@pytest.mark.long
def test_modalities_are_rows_with_windows_of_their_own_switched_by_keys(server: Server, page: Page) -> None:
    open_case(server, page)
    alone = row(page, "image")
    menu = page.locator("summary").and_(page.get_by_label(MENU))
    menu.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("checkbox", name="T1")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("checkbox", name="T2")).to_be_focused()
    expect(further(page, "T2").canvas).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    expect(boxes(page)).to_have_count(0)  # hidden
    settle(page)
    shown = [alone, further(page, "T2"), further(page, "FLAIR")]
    rows = [canvas.get_attribute("data-row") for canvas in page.locator("canvas.pane").all()]
    assert rows == ["image", "modality T2", "modality FLAIR", "truth"]
    for number, pane in enumerate(shown):
        assert pane.slice == AT[2]
        assert grey_at(pane) == pytest.approx(expected_grey(number), abs=1), NAMES[number]
        expect(pane.canvas).to_have_attribute("aria-label", f"axial slice {AT[2] + 1} of {SHAPE[2]}, {NAMES[number]}")
    assert findings(page) == []

    # A window is that of one modality: typed for the one that is chosen in the panel, dragged for that of the pane.
    open_menu(page, "Window")
    page.get_by_role("group", name="Window of").get_by_role("button", name="T2").click()
    expect(page.get_by_role("group", name="Window of").get_by_role("button", name="T2")).to_be_focused()
    page.get_by_role("spinbutton", name="black at, typed").fill("150")
    page.get_by_role("spinbutton", name="white at, typed").fill("450")
    page.get_by_role("spinbutton", name="white at, typed").press("Tab")
    page.keyboard.press("Escape")
    settle(page)
    greys = [expected_grey(0), expected_grey(1, (150, 450)), expected_grey(2)]
    assert [grey_at(pane) for pane in shown] == pytest.approx(greys, abs=1)
    expect(shown[1].canvas).to_have_attribute("data-window", "150 to 450")
    windows = [pane.canvas.get_attribute("data-window") for pane in shown]
    box = shown[2].canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.up(button="right")
    settle(page)
    now = [pane.canvas.get_attribute("data-window") for pane in shown]
    assert now[:2] == windows[:2] and now[2] != windows[2]
    readout = page.locator(".readout")
    for number, name in enumerate(NAMES):
        expect(readout).to_contain_text(f"{name}{int(modality(number)[AT[0] + 5, AT[1] + 5, AT[2]])}")

    # M chooses the modality of the other rows; Shift + M shows all of them, or the chosen one only.
    shown[0].canvas.focus()
    page.keyboard.press("Shift+M")
    expect(page.locator("canvas.pane")).to_have_count(2)
    page.keyboard.press("m")
    page.keyboard.press("Shift+M")
    rows = [canvas.get_attribute("data-row") for canvas in page.locator("canvas.pane").all()]
    assert rows == ["image", "modality T1", "modality FLAIR", "truth"]
    settle(page)
    assert grey_at(row(page, "image")) == pytest.approx(greys[1], abs=1)


def test_region_is_measured_in_each_modality_that_is_shown(server: Server, page: Page) -> None:
    open_case(server, page)
    row(page, "image").canvas.press("Shift+M")
    for key in ("d", "d", "Enter"):
        page.keyboard.press(key)
    expected = " · ".join(
        f"{name}: mean {int(modality(n)[AT[0] + 5, AT[1] + 5, AT[2]])}" for n, name in enumerate(NAMES)
    )
    pattern = "1 voxel.*" + re.escape(expected).replace(re.escape(" · "), ".* · ")
    expect(page.locator(".measured")).to_contain_text(re.compile(pattern))


@pytest.mark.parametrize("width", [1440, 800])
def test_toolbar_with_several_modalities_is_one_row(server: Server, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    open_case(server, page)
    assert int(page.locator(".bar").first.evaluate("bar => bar.clientHeight")) < 30
    page.get_by_label(MENU).click()
    boxes(page).nth(1).check()
    expect(further(page, "T2").canvas).to_be_in_viewport()
    assert int(page.locator(".bar").first.evaluate("bar => bar.clientHeight")) < 30
    beyond = "panes => panes.some(pane => pane.getBoundingClientRect().right > innerWidth)"
    assert not page.locator("canvas.pane").evaluate_all(beyond)


@pytest.fixture
def streaming_server(tmp_path: Path) -> Iterator[Server]:
    started = StreamingServer(tmp_path)
    yield started
    started.stop()


@pytest.mark.long
def test_modalities_of_a_large_image_arrive_slice_by_slice(streaming_server: Server, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_case(streaming_server, page)
    wait_for_slices(page)
    assert not any("slab=1," in url for url in asked), "T2 is not shown yet"
    row(page, "image").canvas.press("Shift+M")
    wait_for_slices(page)
    for number, shown in enumerate((row(page, "image"), further(page, "T2"), further(page, "FLAIR"))):
        assert shown.slice == AT[2]
        assert grey_at(shown) == pytest.approx(expected_grey(number), abs=3), NAMES[number]
    assert not any("api/volumes/" in url for url in asked), "nothing is fetched whole"
