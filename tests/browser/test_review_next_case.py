"""What the next case of the Review page keeps: the window of each modality, the position, the rows of modalities."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from core.types import Size3, VoxelIndex
from tests.browser.conftest import Server
from tests.support.balls import CLASSES, untrained_run
from tests.support.viewers import Pane, open_menu, settle, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]

SHAPE: Size3 = (24, 22, 16)
SMALL: Size3 = (24, 22, 10)
SCALE = 10  # of the arbitrary units of the second case
AT = (12, 11, 5)
AIR_HU, LUNG_HU, TISSUE_HU = -1000, -700, 40


def write_case(folder: Path, name: str, shape: Size3, scale: float) -> None:
    """A case with the modalities CT, in Hounsfield units, and T2, in arbitrary ones."""
    i, j, k = np.indices(shape)
    inside = (abs(i - 12) < 9) & (abs(j - 11) < 8)
    ct = np.where(inside, np.where(i < 12, LUNG_HU + 2 * k, TISSUE_HU + 2 * k), AIR_HU)
    t2 = np.where(inside, scale * (40 + 3 * i + 2 * j), 0)
    label = ((abs(i - 12) < 3) & (abs(j - 11) < 3) & (abs(k - 4) < 2)).astype(np.uint8)
    image = np.stack([ct, t2], -1).astype(np.float32)
    for part, array in (("imagesTr", image), ("labelsTr", label)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / part / f"{name}.nii.gz")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the cases a, b and c, none of which is segmented; T2 of b is brighter, and c has fewer slices."""
    folder = tmp_path_factory.mktemp("next-case")
    server = Server(folder, demo_model=False)
    data = server.data / "cases"
    for name, shape, scale in (("a", SHAPE, 1), ("b", SHAPE, SCALE), ("c", SMALL, 1)):
        write_case(data, name, shape, scale)
    content = {
        "name": "cases",
        "modality": {"0": "CT", "1": "T2"},
        "labels": {str(n): name for n, name in enumerate(CLASSES)},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "abc"],
        "test": [],
    }
    (data / "dataset.json").write_text(json.dumps(content), "utf-8")
    run = untrained_run(server.checkpoints, "next", ("CT", "T2"), dataset={"name": "cases", "path": str(data)})
    yield f"{server.url}/review?model={run}"
    server.stop()


def at(place: VoxelIndex) -> str:
    return ",".join(str(n + 1) for n in place)


def open_at(page: Page, address: str, case: str, place: VoxelIndex, more: str = "") -> Pane:
    """The pane of the image of a case, without crosshair."""
    page.goto(f"{address}&case={case}&at={at(place)}{more}")
    wait_until_ready(page)
    shown = pane(page, "image")
    shown.canvas.focus()
    page.keyboard.press("x")
    settle(page)
    return shown


def pane(page: Page, row: str) -> Pane:
    return Pane(page.locator(f"canvas.pane[data-plane=axial][data-row='{row}']"))


def go_on(page: Page, *keys: str) -> None:
    """Press keys, the last of which opens another case, and wait for it."""
    root = page.locator(".root[data-ready]").first
    before = str(root.get_attribute("data-ready"))
    for key in keys:
        page.keyboard.press(key)
    expect(root).not_to_have_attribute("data-ready", before)
    wait_until_ready(page)


def type_window(page: Page, limits: Sequence[float]) -> None:
    open_menu(page, "Window")
    for side, value in (("white", limits[1]), ("black", limits[0])):
        page.get_by_role("spinbutton", name=f"{side} at, typed").fill(str(value))
    page.get_by_role("spinbutton", name="black at, typed").press("Tab")
    page.keyboard.press("Escape")
    settle(page)


def window(shown: Pane) -> list[float]:
    return [float(n) for n in str(shown.canvas.get_attribute("data-window")).split(" to ")]


def grey_at(shown: Pane, place: VoxelIndex) -> int:
    return shown.voxel_colour(SHAPE[0] - 1 - place[0], SHAPE[1] - 1 - place[1])[0]


def wait_for_look(page: Page, part: str) -> None:
    page.wait_for_function("part => (new URL(location).searchParams.get('look') ?? '').includes(part)", arg=part)


def test_window_in_hounsfield_units_stays_for_the_next_case_and_in_the_address(page: Page, address: str) -> None:
    shown = open_at(page, address, "a", AT)
    open_menu(page, "Window")
    page.get_by_role("button", name="lung", exact=True).click()
    page.keyboard.press("Escape")
    lung = (6, 11, AT[2])
    for case in "abc":
        settle(page)
        assert window(shown) == [-1350, 150], case
        expected = 255 * (LUNG_HU + 2 * AT[2] + 1350) / 1500
        assert grey_at(shown, lung) == pytest.approx(expected, abs=1), case
        wait_for_look(page, "window:-1350,150")
        if case != "c":
            go_on(page, "n")
    page.reload()
    wait_until_ready(page)
    assert window(shown) == [-1350, 150]


def test_window_in_arbitrary_units_is_scaled_to_the_next_case(page: Page, address: str) -> None:
    shown = open_at(page, address, "a", AT)
    page.keyboard.press("m")
    type_window(page, (60, 110))
    grey = grey_at(shown, AT)
    assert grey == pytest.approx(255 * (40 + 3 * AT[0] + 2 * AT[1] - 60) / 50, abs=1)
    wait_for_look(page, "window:60,110")
    go_on(page, "n")
    assert window(shown) == pytest.approx([60 * SCALE, 110 * SCALE], rel=0.01)
    assert grey_at(shown, AT) == pytest.approx(grey, abs=2), "as bright"
    open_menu(page, "Window")
    expect(page.get_by_text("scaled to the intensities of this one")).to_be_visible()
    page.keyboard.press("Escape")
    wait_for_look(page, "window:600,1100")
    go_on(page, "p")
    assert window(shown) == [60, 110]
    open_menu(page, "Window")
    page.get_by_role("button", name="reset window").click()
    page.keyboard.press("Escape")
    settle(page)
    assert window(shown) != [60, 110]


def test_window_by_percentiles_is_found_in_each_case_also_from_a_link(
    page: Page, address: str, browser: Browser
) -> None:
    shown = open_at(page, address, "a", AT)
    page.keyboard.press("m")
    open_menu(page, "Window")
    page.get_by_role("spinbutton", name="lower percentile").fill("10")
    page.get_by_role("spinbutton", name="upper percentile").fill("50")
    page.get_by_role("button", name="use", exact=True).click()
    page.keyboard.press("Escape")
    settle(page)
    first = window(shown)
    go_on(page, "n")
    assert window(shown) == pytest.approx([SCALE * n for n in first], rel=1e-6)
    wait_for_look(page, "window:p10,50")
    other = browser.new_context(viewport={"width": 1440, "height": 1000})
    try:
        copy = other.new_page()
        copy.goto(page.url)
        wait_until_ready(copy)
        assert window(pane(copy, "image")) == window(shown)
    finally:
        other.close()


def test_window_that_would_show_nothing_of_the_next_case_is_not_used_without_a_word(page: Page, address: str) -> None:
    shown = open_at(page, address, "a", AT)
    own = window(shown)
    type_window(page, (2000, 3000))
    assert window(shown) == [2000, 3000] and grey_at(shown, AT) == 0, "as was typed"
    go_on(page, "n")
    assert window(shown) == pytest.approx(own, abs=2) and grey_at(shown, AT) > 0
    expect(
        page.get_by_text("CT: the window of the case before, 2000 to 3000, shows nothing of this image")
    ).to_be_visible()
    go_on(page, "p")
    assert window(shown) == [2000, 3000]
    expect(page.get_by_text("shows nothing of this image")).to_be_hidden()


def test_viewer_whose_element_is_replaced_goes_on_from_the_one_before(page: Page, address: str) -> None:
    """As by a run of the page that overtakes another one; here by another view, from which one comes back."""
    shown = open_at(page, address, "a", AT)
    own = window(shown)
    page.keyboard.press("+")
    page.keyboard.press("ArrowUp")
    type_window(page, (2000, 3000))
    scale = shown.at[2]
    leave_slices_and_return(page)
    assert (window(shown), shown.at[2], voxel(page)) == ([2000, 3000], scale, (*AT[:2], AT[2] + 1))
    wait_for_look(page, "window:2000,3000")
    leave_slices_and_return(page, lambda: page.get_by_role("button", name=re.compile("^Next")).click())
    assert window(shown) == pytest.approx(own, abs=2)
    assert (shown.at[2], voxel(page)) == (scale, (*AT[:2], AT[2] + 1))
    expect(
        page.get_by_text("CT: the window of the case before, 2000 to 3000, shows nothing of this image")
    ).to_be_visible()


def leave_slices_and_return(page: Page, on_other_view: Callable[[], None] | None = None) -> None:
    """Show all cases, which removes the viewer, run ``on_other_view`` there, and show the slices again."""
    view = page.get_by_role("radiogroup", name="View")
    view.get_by_text("all cases").click()
    expect(page.locator("canvas.pane")).to_have_count(0)
    if on_other_view is not None:
        on_other_view()
    view.get_by_text("slices").click()
    wait_until_ready(page)


def test_next_and_previous_case_keep_the_position_at_once_and_into_a_smaller_grid(page: Page, address: str) -> None:
    open_at(page, address, "a", (4, 5, 12))
    go_on(page, "ArrowUp", "n")  # before the address has the new position
    assert voxel(page) == (4, 5, 13)
    page.wait_for_function("at => new URL(location).searchParams.get('at') === at", arg=at((4, 5, 13)))
    go_on(page, "ArrowUp", "p")
    assert voxel(page) == (4, 5, 14), "not where this case was seen before"
    go_on(page, "n")
    go_on(page, "n")
    assert voxel(page) == (4, 5, SMALL[2] - 1), "its last slice, not the fullest one"
    go_on(page, "p")
    assert voxel(page) == (4, 5, 14)
    page.wait_for_function("at => new URL(location).searchParams.get('at') === at", arg=at((4, 5, 14)))
    page.goto(f"{address}&case=c&at={at((4, 5, 14))}")
    wait_until_ready(page)
    assert voxel(page) == (4, 5, SMALL[2] - 1)


def test_case_that_is_chosen_in_the_list_is_shown_where_it_was_seen(page: Page, address: str) -> None:
    open_at(page, address, "a", (4, 5, 12))
    page.keyboard.press("ArrowUp")
    go_on(page, "n")
    go_on(page, "ArrowUp", "n")
    root = page.locator(".root[data-ready]").first
    before = str(root.get_attribute("data-ready"))
    page.get_by_role("option").filter(has_text="a").first.click()
    expect(root).not_to_have_attribute("data-ready", before)
    assert voxel(page) == (4, 5, 13)
    page.wait_for_function("at => new URL(location).searchParams.get('at') === at", arg=at((4, 5, 13)))


def test_rows_and_windows_of_modalities_are_in_the_address(page: Page, address: str, browser: Browser) -> None:
    open_at(page, address, "a", AT)
    page.keyboard.press("Shift+M")
    further = pane(page, "modality T2")
    expect(further.canvas).to_be_visible()
    open_menu(page, "Window")
    page.get_by_role("group", name="Window of").get_by_role("button", name="T2").click()
    page.keyboard.press("Escape")
    type_window(page, (60, 110))
    wait_for_look(page, "windows:2_60_110")
    other = browser.new_context(viewport={"width": 1440, "height": 1000})
    try:
        copy = other.new_page()
        copy.goto(page.url)
        wait_until_ready(copy)
        pane(copy, "image").canvas.focus()
        copy.keyboard.press("x")
        settle(copy)
        assert window(pane(copy, "modality T2")) == [60, 110]
        rows = [str(canvas.get_attribute("data-row")) for canvas in page.locator("canvas.pane").all()]
        assert rows == ["image", "modality T2", "truth"]
        for row in rows:
            assert pane(copy, row).picture() == pane(page, row).picture(), row
    finally:
        other.close()
    go_on(page, "n")
    expect(further.canvas).to_be_visible()
    assert window(further) == pytest.approx([60 * SCALE, 110 * SCALE], rel=0.01)


def test_old_links_and_impossible_looks_are_opened(page: Page, address: str) -> None:
    shown = open_at(
        page, address, "a", AT, "&look=window:60,200;windows:9_1_2,2_x_3,2_5_1;show:image,modality%20PD;swipe:7"
    )
    assert window(shown) == [60, 200]
    expect(page.locator("canvas.pane")).to_have_count(1)
    assert str(shown.canvas.get_attribute("data-row")) == "image"
