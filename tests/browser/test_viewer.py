"""The viewer in a real browser: orientation, outlines, navigation without requests, windowing, caching."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from core.imaging.display import channels
from tests.browser.conftest import Server
from tests.support.menus import choose_option
from tests.support.viewers import open_menu, pane, rest_pointer, settle, voxel, wait_until_ready

pytestmark = pytest.mark.browser

SHAPE = (24, 30, 18)
SPACING_MM = (1.0, 1.0, 2.0)
BLOCK = 5  # voxels of a marked corner
COLOUR = (0x4A, 0x90, 0xD9)  # of the only class
BOX = (slice(8, 15), slice(10, 22), slice(6, 13))  # of its label
RAS, LAS = np.diag([*SPACING_MM, 1.0]), np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0])
LAS[0, 3] = (SHAPE[0] - 1) * SPACING_MM[0]


def corner_value(right: bool, front: bool, up: bool) -> float:
    return 500 + 50.0 * (4 * right + 2 * front + up)


def marked_volume() -> np.ndarray:
    """Every corner has a different brightness; the middle is dark, with a gradient, so that all slices differ."""
    image = np.full(SHAPE, 100.0, np.float32) + np.arange(SHAPE[2]) * 2
    ends = (slice(0, BLOCK), slice(-BLOCK, None))
    for right in (False, True):
        for front in (False, True):
            for up in (False, True):
                image[ends[right], ends[front], ends[up]] = corner_value(right, front, up)
    return image


def write_cases(folder: Path) -> None:
    """One anatomy stored as RAS, as LAS, and in a file that states no orientation."""
    image, label = marked_volume(), np.zeros(SHAPE, np.uint8)
    label[BOX] = 1
    training = []
    for name in ("ras", "las", "unknown"):
        flip = slice(None, None, -1 if name == "las" else 1)
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            made = nib.Nifti1Image(array[flip], {"las": LAS, "ras": RAS}.get(name))
            made.header.set_zooms(SPACING_MM)
            nib.save(made, folder / part / f"{name}.nii.gz")
        training.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    content = {
        "name": "Corners",
        "modality": {"0": "M"},
        "labels": {"0": "background", "1": "box"},
        "training": training,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")


def grey(value: float) -> int:
    """What the first window makes of an intensity."""
    (channel,) = channels(marked_volume()[None], ["M"])
    low, high = channel.window
    return round(255 * min(1.0, max(0.0, (value - low) / (high - low))))


def open_case(server: Server, page: Page, name: str) -> None:
    if not (server.data / "corners").exists():
        write_cases(server.data / "corners")
    page.goto(f"{server.url}/data?data=corners")
    page.get_by_text("Slice by slice").click()
    wait_until_ready(page)
    if name != "las":  # the first in the list
        choose_subject(page, name)


def choose_subject(page: Page, name: str) -> None:
    before = page.locator(".root[data-ready]").first.get_attribute("data-ready")
    choose_option(page.get_by_role("combobox", name="Subject"), name)
    expect(page.locator(".root[data-ready]").first).not_to_have_attribute("data-ready", str(before), timeout=30_000)
    wait_until_ready(page)
    assert page.locator(".root[data-ready]").first.get_attribute("data-ready") != before


def go_to(page: Page, plane: str, slice: int) -> None:
    """Go to a slice of a plane by keys."""
    canvas = pane(page, plane, "image").canvas
    canvas.focus()
    canvas.press("Home")
    for _ in range(slice):
        canvas.press("ArrowUp")
    settle(page)


def open_raw(server: Server, page: Page, name: str = "ras") -> None:
    """Without crosshair, so that pixels are those of the image."""
    open_case(server, page, name)
    pane(page, "axial", "image").canvas.focus()
    page.keyboard.press("x")
    settle(page)


def test_marked_corners_are_where_the_orientation_letters_say(server: Server, page: Page) -> None:
    """In a file stored as LAS, and in one stored as RAS."""
    open_raw(server, page, "las")
    corners_are_where_the_letters_say(page)
    choose_subject(page, "ras")
    corners_are_where_the_letters_say(page)


def corners_are_where_the_letters_say(page: Page) -> None:
    ni, nj, nk = SHAPE
    axial, coronal, sagittal = (pane(page, plane, "image") for plane in ("axial", "coronal", "sagittal"))
    assert (axial.letters, coronal.letters, sagittal.letters) == ("RLAP", "RLSI", "APSI")
    for up in (False, True):
        go_to(page, "axial", nk - 3 if up else 2)
        for right in (False, True):
            for front in (False, True):
                seen = axial.voxel_colour(2 if right else ni - 3, 2 if front else nj - 3)
                assert seen == pytest.approx((grey(corner_value(right, front, up)),) * 3, abs=2), (right, front, up)
    for front in (False, True):
        go_to(page, "coronal", nj - 3 if front else 2)
        for right in (False, True):
            for up in (False, True):
                seen = coronal.voxel_colour(2 if right else ni - 3, 2 if up else nk - 3)
                assert seen == pytest.approx((grey(corner_value(right, front, up)),) * 3, abs=2), (right, front, up)
    for right in (False, True):
        go_to(page, "sagittal", ni - 3 if right else 2)
        for front in (False, True):
            for up in (False, True):
                seen = sagittal.voxel_colour(2 if front else nj - 3, 2 if up else nk - 3)
                assert seen == pytest.approx((grey(corner_value(right, front, up)),) * 3, abs=2), (right, front, up)
    _, _, sx, sy = coronal.at
    assert sy / sx == pytest.approx(SPACING_MM[2] / SPACING_MM[0], rel=1e-3)


@pytest.mark.long
def test_las_and_ras_copies_look_the_same(server: Server, page: Page) -> None:
    open_case(server, page, "las")
    planes = [(plane, row) for plane in ("axial", "coronal", "sagittal") for row in ("image", "truth")]
    pictures = [pane(page, *which).picture() for which in planes]
    place = voxel(page)
    assert len(set(pictures)) == len(pictures)
    choose_subject(page, "ras")
    assert voxel(page) == place
    assert [pane(page, *which).picture() for which in planes] == pictures


@pytest.mark.long
def test_unknown_orientation_is_labelled_and_not_mirrored(server: Server, page: Page) -> None:
    open_raw(server, page, "unknown")
    axial = pane(page, "axial", "image")
    assert axial.letters == "????" and pane(page, "sagittal", "image").letters == "????"
    go_to(page, "axial", SHAPE[2] - 3)
    assert axial.voxel_colour(2, 2) == pytest.approx((grey(corner_value(False, True, True)),) * 3, abs=2)
    expect(page.get_by_text("orientation unknown")).to_be_visible()


def test_outline_is_on_the_edge_of_the_label_and_the_fill_inside(server: Server, page: Page) -> None:
    open_raw(server, page)
    go_to(page, "axial", 9)
    truth = pane(page, "axial", "truth")
    x, y, sx, sy = truth.at
    left, right = x + (SHAPE[0] - BOX[0].stop) * sx, x + (SHAPE[0] - BOX[0].start) * sx  # radiological: mirrored
    top, bottom = y + (SHAPE[1] - BOX[1].stop) * sy, y + (SHAPE[1] - BOX[1].start) * sy
    middle = ((left + right) / 2, (top + bottom) / 2)
    inside = truth.pixel(*middle)
    assert inside != pytest.approx(COLOUR, abs=12) and inside[2] > inside[0] + 30, "half transparent"
    open_menu(page, "Overlay")
    page.get_by_role("button", name="outline", exact=True).click()
    settle(page)
    assert max(truth.pixel(*middle)) - min(truth.pixel(*middle)) <= 2, "grey again inside"
    for px, py in edges(left, top, right, bottom, 0.75):
        assert truth.pixel(px, py) == pytest.approx(COLOUR, abs=70) and is_blue(truth.pixel(px, py)), (px, py)
    for inward in (-2, 4):
        for px, py in edges(left, top, right, bottom, inward):
            assert not is_blue(truth.pixel(px, py)), (px, py)
    page.get_by_role("button", name="box", exact=True).click()  # hide the class
    settle(page)
    assert not is_blue(truth.pixel(left + 0.75, middle[1]))


def edges(left: float, top: float, right: float, bottom: float, inward: float) -> list[tuple[float, float]]:
    """A point beside the middle of each side of a rectangle, so many pixels inside of it."""
    x, y = (left + right) / 2, (top + bottom) / 2
    return [(left + inward, y), (right - inward, y), (x, top + inward), (x, bottom - inward)]


def is_blue(colour: tuple[int, int, int]) -> bool:
    return colour[2] > colour[0] + 40


def test_wheel_keys_and_mouse_navigate_without_requests(server: Server, page: Page) -> None:
    open_case(server, page, "ras")
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("websocket", lambda socket: requested.append(socket.url))
    axial = pane(page, "axial", "image")
    before = voxel(page)
    frames = count_frames(page)
    rest_pointer(axial)
    picture = axial.picture()
    page.mouse.wheel(0, -100)
    assert voxel(page) == (before[0], before[1], before[2] + 1) and axial.picture() != picture
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    assert voxel(page)[2] == before[2] - 1
    for _ in range(4):
        page.mouse.wheel(0, 10)  # a touchpad: small steps add up
    assert voxel(page)[2] == before[2] - 2
    axial.canvas.focus()
    for key, expected in (
        ("End", SHAPE[2] - 1),
        ("ArrowUp", SHAPE[2] - 1),
        ("PageDown", SHAPE[2] - 11),
        ("ArrowDown", SHAPE[2] - 12),
        ("Home", 0),
        ("PageUp", 10),
        ("ArrowRight", 11),
        ("ArrowLeft", 10),
    ):
        page.keyboard.press(key)
        assert voxel(page)[2] == expected, key
    here = voxel(page)
    page.keyboard.press("Shift+ArrowRight")  # on the screen: towards the patient's left
    assert voxel(page) == (here[0] - 1, here[1], here[2])
    page.keyboard.press("Shift+ArrowUp")
    assert voxel(page) == (here[0] - 1, here[1] + 1, here[2])
    x, y, sx, sy = axial.at
    axial.canvas.click(position={"x": x + 3.5 * sx, "y": y + 4.5 * sy})
    assert voxel(page) == (SHAPE[0] - 4, SHAPE[1] - 5, here[2])
    assert pane(page, "sagittal", "image").slice == SHAPE[0] - 4, "panes are linked"
    assert count_frames(page) - frames >= 12
    assert requested == []


def count_frames(page: Page) -> int:
    settle(page)
    return int(str(page.locator(".root[data-drawn]").first.get_attribute("data-drawn")))


@pytest.mark.long
def test_window_zoom_planes_and_help(server: Server, page: Page) -> None:
    open_raw(server, page)
    axial = pane(page, "axial", "image")
    picture = axial.picture()
    sx = axial.at[2]
    axial.canvas.hover(position={"x": 40, "y": 60})
    page.mouse.down(button="right")
    page.mouse.move(500, 500, steps=4)
    page.mouse.up(button="right")
    settle(page)
    assert axial.picture() != picture, "right drag changes the window"
    page.get_by_text("Window", exact=True).click()
    page.get_by_role("button", name="reset window").click()
    settle(page)
    page.get_by_text("Window", exact=True).click()
    assert axial.picture() == picture
    axial.canvas.focus()
    page.keyboard.press("+")
    settle(page)
    assert axial.at[2] == pytest.approx(1.25 * sx, rel=1e-3)
    page.keyboard.press("0")
    settle(page)
    assert axial.picture() == picture
    page.get_by_role("button", name="coronal", exact=True).click()
    expect(page.locator("canvas.pane")).to_have_count(2)
    left, right = (page.locator("canvas.pane").nth(n).bounding_box() for n in (0, 1))
    assert left and right and left["y"] == right["y"] and left["width"] == right["width"], "side by side, same scale"
    assert pane(page, "coronal", "image").at == pane(page, "coronal", "truth").at
    page.get_by_role("button", name="Mouse and keys").click()
    expect(page.get_by_text("first and last slice")).to_be_visible()


def test_failed_volume_request_is_reported_and_can_be_repeated(server: Server, page: Page) -> None:
    if not (server.data / "corners").exists():
        write_cases(server.data / "corners")
    page.route("**/api/volumes/*", lambda route: route.abort())
    page.goto(f"{server.url}/data?data=corners")
    page.get_by_text("Slice by slice").click()
    expect(page.get_by_text("The server does not answer.")).to_be_visible(timeout=30_000)
    page.unroute("**/api/volumes/*")
    page.get_by_role("button", name="Try again").click()
    wait_until_ready(page)


def test_volumes_are_compressed_private_and_cached_by_the_browser(server: Server, page: Page) -> None:
    answers = []
    page.on("response", lambda r: answers.append(r) if "/api/volumes/" in r.url else None)
    open_case(server, page, "las")
    assert len(answers) == 2  # the image and the truth
    for answer in answers:
        assert answer.status == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert "private" in answer.headers["cache-control"] and "immutable" in answer.headers["cache-control"]
    urls = {answer.url for answer in answers}
    answers.clear()
    page.reload()
    page.get_by_text("Slice by slice").click()
    wait_until_ready(page)
    assert {answer.url for answer in answers} == urls
    entries = "performance.getEntriesByType('resource').filter(e => e.name.includes('/api/volumes/'))"
    sizes = page.evaluate(f"() => {entries}.map(e => e.transferSize)")
    assert sizes == [0, 0], "from the browser's own cache"
