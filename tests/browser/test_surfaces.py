"""Surfaces on the Review page in a real browser: made on demand, drawn, turned, cut, linked with the crosshair; a
picture where there is no WebGL."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, Route, expect

from core.colours import rgb
from core.paths import project_root
from tests.browser.conftest import MADE_MS, Server
from tests.support.accessibility import findings
from tests.support.balls import COLOURS
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, hand_made_case
from tests.support.viewers import settle, volume_requests, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]

WITHOUT_WEBGL = """
    const plain = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...all) {
        return kind.startsWith('webgl') ? null : plain.call(this, kind, ...all);
    };
"""
# Share of the pixels within 40 of a colour up to its brightness, and of those that are not black.
PIXELS = """(canvas, [red, green, blue]) => {
    const copy = document.createElement('canvas');
    copy.width = canvas.width; copy.height = canvas.height;
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    const d = context.getImageData(0, 0, copy.width, copy.height).data;
    let coloured = 0, drawn = 0;
    for (let p = 0; p < d.length; p += 4) {
        const light = Math.max(d[p], d[p + 1], d[p + 2]);
        if (light < 20) continue;
        drawn++;
        const away = [red, green, blue].map((n, c) => Math.abs(d[p + c] - n * light / Math.max(red, green, blue)));
        if (away[0] + away[1] + away[2] < 40) coloured++;
    }
    return [coloured / (d.length / 4), drawn / (d.length / 4)];
}"""


def shifted(truth: np.ndarray) -> np.ndarray:
    """Class 1 moved to the right by two voxels, class 2 as it is, but for a part that only the prediction has."""
    prediction = np.where(truth == 2, 2, 0).astype(truth.dtype)
    prediction[2:][truth[:-2] == 1] = 1
    return prediction


@pytest.fixture
def case(quiz_server: Server, quiz_run: QuizRun) -> Iterator[Case]:
    with hand_made_case(quiz_server, quiz_run, shifted) as made:
        yield made


@pytest.fixture
def shown(webgl_page: Page) -> Page:
    return webgl_page


def open_surfaces(page: Page, case: Case) -> Locator:
    page.goto(case.url)
    wait_until_ready(page)
    page.locator("canvas.pane").first.focus()
    page.keyboard.press("3")
    return page.locator(".surfaces")


def colours(canvas: Locator, colour: str) -> tuple[float, float]:
    share, drawn = canvas.evaluate(PIXELS, list(rgb(colour)))
    return share, drawn


def test_surfaces_are_drawn_turned_cut_and_share_the_crosshair(shown: Page, case: Case) -> None:
    requested = volume_requests(shown)
    surfaces = open_surfaces(shown, case)
    expect(surfaces).to_have_attribute("data-state", "done", timeout=MADE_MS)
    canvas = shown.locator("canvas.surface")
    settle(shown)
    for colour in COLOURS[2], COLOURS[1]:
        share, drawn = colours(canvas, colour)
        assert share > 0.005 and drawn > 0.02, colour
    expect(canvas).to_have_attribute("aria-label", _containing("bright, dark", "reference and prediction", "front"))
    expect(surfaces.locator(".caption")).to_contain_text("4 surfaces")
    assert surfaces.locator(".edge").all_inner_texts() == ["R", "L", "S", "I"]
    assert findings(shown) == []

    # A class has the colour that a person gives it.
    shown.locator("summary").get_by_text("Classes", exact=True).click()
    shown.get_by_label("Colour of bright").fill("#ff00ff")
    settle(shown)
    assert colours(canvas, "#ff00ff")[0] > share / 2 and colours(canvas, COLOURS[1])[0] < share / 20
    shown.get_by_role("button", name="Reset colours").click()
    shown.keyboard.press("Escape")
    settle(shown)
    assert colours(canvas, COLOURS[1])[0] > 0.005

    # A click on a surface moves the crosshair to it: to the front of the shifted ball, where the prediction ends.
    before, fetched = voxel(shown), len(requested)
    shown.get_by_role("group", name="Classes", exact=True).get_by_role("button", name="dark").click()
    shown.get_by_role("group", name="Surfaces of").get_by_role("button", name="reference").click()
    settle(shown)
    assert colours(canvas, COLOURS[2])[0] < 0.001, "hidden by the legend"
    box = canvas.bounding_box()
    assert box is not None
    points = np.argwhere(case.prediction == 1)
    for at in _click_until_hit(shown, box):
        if at != before:
            break
    near = np.abs(points - np.array(at)).max(axis=1).min()
    assert at != before and near <= 1, "the crosshair is at the surface"
    assert at[1] >= points[:, 1].mean(), "on the side that is seen: the front"
    expect(surfaces.locator(".caption")).to_contain_text("bright, prediction,")

    # The crosshair in the slices moves the plane; keys turn, cut and colour.
    drawn_before = str(surfaces.get_attribute("data-drawn"))
    shown.locator("canvas.pane").first.focus()
    shown.keyboard.press("ArrowUp")
    settle(shown)
    assert int(str(surfaces.get_attribute("data-drawn"))) > int(drawn_before)
    canvas.focus()
    view = surfaces.get_attribute("data-view")
    shown.keyboard.press("ArrowLeft")
    settle(shown)
    assert surfaces.get_attribute("data-view") != view
    expect(canvas).to_have_attribute("aria-label", _containing("turned"))
    shown.keyboard.press("5")
    expect(canvas).to_have_attribute("aria-label", _containing("seen from above"))
    assert surfaces.locator(".edge").all_inner_texts() == ["L", "R", "A", "P"]
    shown.keyboard.press("1")
    settle(shown)
    whole = colours(canvas, COLOURS[1])[0]
    shown.keyboard.press("c")
    expect(canvas).to_have_attribute("aria-label", _containing("turned, cut at axial"))  # from the front it is a line
    settle(shown)
    assert 0 < colours(canvas, COLOURS[1])[0] < 0.9 * whole, "above the slice"
    shown.keyboard.press("v")
    settle(shown)
    assert colours(canvas, "#b2182b")[0] + colours(canvas, "#2166ac")[0] > 0.001, "two voxels to the right"
    expect(shown.get_by_role("img", name="Colours of distances")).to_be_visible()
    assert len(requested) == fetched, "all without a request"
    shown.get_by_role("group", name="Classes", exact=True).get_by_role("button", name="dark").click()
    assert findings(shown) == []
    expect(shown).to_have_url(_containing("surfaces"))


def test_copied_address_shows_the_same_side_of_the_surfaces_in_the_same_colours(
    shown: Page, webgl: Browser, case: Case
) -> None:
    surfaces = open_surfaces(shown, case)
    expect(surfaces).to_have_attribute("data-state", "done", timeout=MADE_MS)
    shown.get_by_role("group", name="Surfaces of").get_by_role("button", name="reference").click()
    shown.get_by_role("group", name="Colour of surfaces").get_by_role("button", name="distance").click()
    shown.get_by_label("Range of distances").select_option("5")
    look = "surfaces:on,distance,prediction,5mm"
    shown.wait_for_function("look => new URL(location).searchParams.get('look')?.includes(look)", arg=look)
    copy = webgl.new_page(viewport={"width": 1440, "height": 1000})
    try:
        copy.goto(shown.url)
        expect(copy.locator(".surfaces")).to_have_attribute("data-state", "done", timeout=MADE_MS)
        pressed = copy.get_by_role("group", name="Surfaces of").get_by_role("button", pressed=True)
        expect(pressed).to_have_text("prediction")
        expect(copy.get_by_label("Range of distances")).to_have_value("5")
        settle(copy)
        assert copy.locator("canvas.surface").screenshot() == shown.locator("canvas.surface").screenshot()
    finally:
        copy.close()


def test_look_of_the_surfaces_names_a_region_and_reads_old_ones(shown: Page) -> None:
    for name in ("elements", "surface_scene", "surface_interaction", "surfaces"):
        content = (project_root() / "ui" / "viewer" / f"{name}.js").read_text("utf-8")
        shown.add_script_tag(content=content)
    found = shown.evaluate("""() => {
        window.DISTANCE_RANGES_MM = [1, 2, 5, 10, 20];
        window.DISTANCE_RANGE_MM = 2;
        const looks = [["on"], ["on", "distance", "cut", "image"], ["on", "reference", "10mm", "of whole tumour"], []];
        return looks.map((words) => {
            const surfaces = Object.assign(Object.create(Surfaces.prototype), { viewer: { settings: {} } });
            surfaces.look = words;
            return [surfaces.look, surfaces.settings.sides, surfaces.settings.structure];
        });
    }""")
    both = ["truth", "prediction"]
    assert found == [
        [["on"], both, "classes"],
        [["on", "distance", "cut", "image"], both, "classes"],
        [["on", "reference", "10mm", "of whole tumour"], ["truth"], "whole tumour"],
        [[], both, "classes"],
    ]


def test_surfaces_can_be_stopped_and_made_again(shown: Page, case: Case) -> None:
    shown.route("**/api/volumes/*?state", lambda route: route.fulfill(status=202, json={"progress": 0.5}))
    surfaces = open_surfaces(shown, case)
    expect(surfaces.locator(".notice")).to_contain_text("Making the surfaces: 50 %")
    with shown.expect_request(lambda request: request.method == "DELETE"):
        surfaces.get_by_role("button", name="Stop").click()
    expect(surfaces).to_have_attribute("data-state", "stopped")
    shown.unroute("**/api/volumes/*?state")
    shown.route("**/api/volumes/*?state", lambda route: route.fulfill(status=422, body="ball: no memory"), times=1)
    surfaces.get_by_role("button", name="Make the surfaces").click()
    expect(surfaces.locator(".notice")).to_contain_text("ball: no memory")
    surfaces.get_by_role("button", name="Try again").click()
    expect(surfaces).to_have_attribute("data-state", "done", timeout=MADE_MS)


def test_stopping_waits_for_a_request_that_is_on_its_way_which_would_begin_anew(shown: Page, case: Case) -> None:
    polls: list[Route] = []
    happened: list[str] = []
    shown.route("**/api/volumes/*?state", lambda route: polls.append(route))
    shown.on("request", lambda request: happened.append("ended") if request.method == "DELETE" else None)
    with shown.expect_request("**/api/volumes/*?state"):
        surfaces = open_surfaces(shown, case)
    expect(surfaces).to_have_attribute("data-state", "running")
    surfaces.get_by_role("button", name="Stop").click()
    expect(surfaces).to_have_attribute("data-state", "stopped")
    settle(shown)
    happened.append("answered")
    with shown.expect_request(lambda request: request.method == "DELETE"):
        polls.pop().fulfill(status=202, json={"progress": 0.5})
    assert happened == ["answered", "ended"] and polls == []


def test_without_webgl_there_is_a_picture(page: Page, case: Case) -> None:
    page.add_init_script(WITHOUT_WEBGL)
    surfaces = open_surfaces(page, case)
    expect(surfaces).to_have_attribute("data-state", "picture", timeout=MADE_MS)
    picture = page.get_by_role("img", name="Surfaces of bright, dark from the front")
    expect(picture).to_be_visible()
    assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 500
    expect(surfaces.locator(".caption")).to_contain_text("no WebGL 2")
    assert findings(page) == []


def _click_until_hit(page: Page, box: FloatRect) -> Iterator[tuple[int, int, int]]:
    """Voxels of the crosshair after clicks over the canvas, from its middle outward."""
    for radius in (0, 0.06, 0.12, 0.18, 0.24, 0.3):
        for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False) if radius else (0.0,):
            reach = radius * min(box["width"], box["height"])
            x = box["x"] + box["width"] / 2 + reach * np.cos(angle)
            page.mouse.click(x, box["y"] + box["height"] / 2 + reach * np.sin(angle))
            yield voxel(page)


def _containing(*parts: str) -> re.Pattern[str]:
    """A pattern of texts that contain all parts."""
    return re.compile("".join(f"(?=.*{re.escape(part)})" for part in parts), re.DOTALL)
