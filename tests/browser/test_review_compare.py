"""Comparing and measuring on the Review page in a browser: blink, swipe, checkerboard, cine, ruler, region, lesions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from core.colours import rgb
from tests.browser.conftest import Server
from tests.support.balls import COLOURS, SPACING_MM
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, expect_colour, hand_made_case, mistakes, open_case
from tests.support.viewers import open_menu, pane, settle, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]

TRUTH, PREDICTION = rgb(COLOURS[1]), rgb(COLOURS[2])  # of the ball of the wrong class
COUNT = """(c, colour) => {
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let p = 0; p < d.length; p += 4) if ([0, 1, 2].every(k => Math.abs(d[p + k] - colour[k]) < 4)) n++;
    return n;
}"""


@pytest.fixture
def case(quiz_server: Server, quiz_run: QuizRun) -> Iterator[Case]:
    with hand_made_case(quiz_server, quiz_run, mistakes) as made:
        yield made


def test_blink_swipe_and_checkerboard_show_each_segmentation_in_its_place(page: Page, case: Case) -> None:
    wrong = case.first(1, 2)
    open_case(page, case, wrong)
    page.keyboard.press("t")
    expect(page.locator("canvas.pane")).to_have_count(1)
    shown = pane(page, "axial", "compare")
    settle(page)
    for colour, name in ((TRUTH, "reference"), (PREDICTION, "prediction"), (TRUTH, "reference")):
        expect_colour(shown, case, wrong, colour)
        assert f", {name}" in str(shown.canvas.get_attribute("aria-label"))
        page.keyboard.press("t")  # the pane that is new has the keys
        settle(page)
    modes = page.get_by_role("group", name="Compare by")
    modes.get_by_role("button", name="swipe").click()
    shown.canvas.focus()
    for n in range(30):
        page.keyboard.press("[" if n < 5 else "Control+Alt+[")  # AltGr, as Windows reports it
    settle(page)
    expect_colour(shown, case, wrong, PREDICTION, "the line is at the left")
    box = shown.canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 90, steps=3)
    page.mouse.up()
    settle(page)
    expect_colour(shown, case, wrong, TRUTH, "the line is at the right")
    assert voxel(page) == wrong, "the crosshair stays"
    touch = page.context.new_cdp_session(page)
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, x in (("touchStart", box["width"] - 12), ("touchMove", 80), ("touchMove", 3), ("touchEnd", None)):
        points = [] if x is None else [{"x": box["x"] + x, "y": box["y"] + 90}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    settle(page)
    expect_colour(shown, case, wrong, PREDICTION, "a finger drags the line")
    assert voxel(page) == wrong
    modes.get_by_role("button", name="checkerboard").click()
    settle(page)
    assert min(int(shown.canvas.evaluate(COUNT, list(colour))) for colour in (TRUTH, PREDICTION)) > 500


def test_interpolation_and_convention_are_remembered_by_the_browser(page: Page, case: Case) -> None:
    shown = open_case(page, case, (10, 12, 9))

    def is_flat() -> bool:
        """Whether a voxel of the image has one colour, also near its edges."""
        settle(page)
        x, y, sx, sy = shown.at
        corners = [(x + (3 + a) * sx, y + (4 + b) * sy) for a in (0.15, 0.85) for b in (0.15, 0.85)]
        return len({shown.pixel(*corner) for corner in corners}) == 1

    assert not is_flat()
    shown.canvas.press("i")
    assert is_flat()
    open_menu(page, "More")
    page.get_by_role("checkbox", name="patient's right on the left").click()
    settle(page)
    assert shown.letters == "LRAP"
    page.goto("about:blank")
    shown = open_case(page, case, (10, 12, 9))
    assert is_flat() and shown.letters == "LRAP"


def test_slices_are_played_until_a_key_is_pressed(page: Page, case: Case) -> None:
    open_case(page, case, (10, 12, 9))
    expect(page.locator(".findings [role=status]").first).to_contain_text("of errors")  # fetched after the volumes
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    open_menu(page, "More")
    pane(page, "axial", "errors").canvas.focus()
    page.keyboard.press("Space")
    play = page.get_by_role("button", name="Play the slices")
    expect(play).to_have_attribute("aria-pressed", "true")
    expect(pane(page, "axial", "errors").canvas).not_to_have_attribute("data-slice", "9")
    page.keyboard.press("Home")
    expect(play).to_have_attribute("aria-pressed", "false")
    assert voxel(page)[2] == 0
    assert [url for url in requested if "/api/" in url] == []


def test_ruler_measures_millimetres_by_mouse_and_by_keys(page: Page, case: Case) -> None:
    open_case(page, case, (10, 12, 9))
    page.get_by_role("button", name="coronal", exact=True).click()
    open_menu(page, "More")
    drag = page.get_by_role("group", name="Drag")
    drag.get_by_role("button", name="ruler").click()
    page.keyboard.press("Escape")  # closes the menu
    shown, result = pane(page, "coronal", "errors"), page.locator(".measured")
    settle(page)
    x, y, sx, sy = shown.at
    box = shown.canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + x + 3 * sx, box["y"] + y + 4 * sy)
    page.mouse.down()
    page.mouse.move(box["x"] + x + 15 * sx, box["y"] + y + 10 * sy, steps=3)
    page.mouse.up()
    expected = math.hypot(12 * SPACING_MM[0], 6 * SPACING_MM[2])
    expect(result).to_have_text(f"Length {expected:.1f} mm")
    assert voxel(page) == (10, 12, 9), "the crosshair stays"
    shown.canvas.focus()
    page.keyboard.press("Escape")
    expect(result).to_be_hidden()
    page.keyboard.press("Enter")
    for key in ("Shift+ArrowUp", "Shift+ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowLeft")
    expect(result).to_have_text(f"Length {math.hypot(2 * SPACING_MM[2], SPACING_MM[0]):.1f} mm")


def test_region_gives_mean_deviation_and_volumes_of_its_voxels(page: Page, case: Case) -> None:
    i, j, k = case.first(1, 2)
    shown = open_case(page, case, (i, j, k))
    open_menu(page, "More")
    page.get_by_role("group", name="Drag").get_by_role("button", name="region").click()
    page.keyboard.press("Escape")  # closes the menu
    x, y, sx, sy = shown.at
    box = shown.canvas.bounding_box()
    assert box is not None
    ni, nj, _ = case.truth.shape
    left, top = ni - 1 - (i + 2), nj - 1 - (j + 1)  # five columns, three rows
    page.mouse.move(box["x"] + x + (left + 0.2) * sx, box["y"] + y + (top + 0.2) * sy)
    page.mouse.down()
    page.mouse.move(box["x"] + x + (left + 4.8) * sx, box["y"] + y + (top + 2.8) * sy, steps=3)
    page.mouse.up()
    part = (slice(i - 2, i + 3), slice(j - 1, j + 2), k)
    values, result = case.image[part].astype(float), page.locator(".measured")
    expect(result).to_contain_text("15 voxels, 0.02")
    expect(result).to_contain_text(f"mean {values.mean():.3g}, standard deviation {values.std(ddof=1):.3g}")
    bright, dark = int((case.truth[part] == 1).sum()), int((case.prediction[part] == 2).sum())
    expect(result).to_contain_text(f"reference: bright {bright * 0.0015:.2g} ml")
    expect(result).to_contain_text(f"prediction: dark {dark * 0.0015:.2g} ml")


def in_pieces(truth: np.ndarray) -> np.ndarray:
    """A half of the ball of class 1, and two false blocks of it."""
    prediction = truth.copy()
    half = truth[: int(np.argwhere(truth == 1)[:, 0].mean())] == 1
    prediction[: len(half)][half] = 0
    prediction[16:19, 18:22, 1:5] = 1
    prediction[16:19, 1:4, 12:16] = 1
    return prediction


def test_class_in_several_components_is_scored_by_lesion(page: Page, quiz_server: Server, quiz_run: QuizRun) -> None:
    with hand_made_case(quiz_server, quiz_run, in_pieces) as case:
        page.goto(case.url)
        wait_until_ready(page)
        page.get_by_role("group", name="Findings").get_by_role("button", name="lesions").click()
        cards = page.locator(".findings .card")
        expect(page.locator(".findings")).to_contain_text("bright: 1 of 1 lesion detected, 2 false, mean Dice of")
        expect(page.locator(".findings")).to_contain_text("No lesion is missed.")
        kinds = page.get_by_role("group", name="Lesions", exact=True)
        kinds.get_by_role("button", name="false").click()
        expect(cards).to_have_count(2)
        page.keyboard.press("e")
        assert (case.truth[voxel(page)], case.prediction[voxel(page)]) == (0, 1)
        kinds.get_by_role("button", name="detected").click()
        expect(cards).to_have_count(1)
        truth, prediction = case.truth == 1, case.prediction == 1
        overlapping = prediction & truth
        dice = 2 * overlapping.sum() / (truth.sum() + overlapping.sum())
        expect(cards.first).to_contain_text(f"Dice {dice:.3f}")


def test_copied_address_shows_the_same_in_another_browser_profile(page: Page, case: Case, browser: Browser) -> None:
    wrong = case.first(1, 2)
    shown = open_case(page, case, wrong)
    page.get_by_role("button", name="coronal", exact=True).click()
    page.get_by_role("group", name="Show").get_by_role("button", name="prediction").click()
    page.get_by_role("group", name="Classes", exact=True).get_by_role("button", name="dark").click()
    page.get_by_role("group", name="Errors", exact=True).get_by_role("button", name="false negative").click()
    page.get_by_text("Classes of errors").click()
    page.get_by_role("group", name="Errors in the colours of").get_by_role("button", name="reference").click()
    page.get_by_text("Classes of errors").click()
    page.get_by_text("Window", exact=True).click()
    page.get_by_role("spinbutton", name="black at, typed").fill("60")
    page.get_by_role("spinbutton", name="white at, typed").fill("200")
    page.get_by_role("spinbutton", name="white at, typed").press("Tab")
    page.get_by_text("Window", exact=True).click()
    pane(page, "coronal", "errors").canvas.press("ArrowUp")
    page.wait_for_function("() => /window%3A60%2C200|window:60,200/.test(location.search)")
    at = f"{wrong[0] + 1},{wrong[1] + 2},{wrong[2] + 1}"
    page.wait_for_function("at => new URL(location).searchParams.get('at') === at", arg=at)
    rows = [canvas.get_attribute("data-row") for canvas in page.locator("canvas.pane").all()]
    assert rows == ["truth", "errors"]
    other = browser.new_context(viewport={"width": 1440, "height": 1000})
    try:
        copy = other.new_page()
        copy.goto(page.url)
        wait_until_ready(copy)
        assert voxel(copy) == voxel(page)
        for canvas in copy.locator("canvas.pane").all():
            canvas.wait_for()
        pane(copy, "coronal", "errors").canvas.press("x")
        settle(copy)
        for row in rows:
            assert pane(copy, "coronal", str(row)).picture() == pane(page, "coronal", str(row)).picture(), row
        open_menu(copy, "Overlay")
        expect(copy.get_by_role("slider", name="Opacity")).to_have_value("1")
    finally:
        other.close()
    assert shown.canvas.count() == 0


def test_copied_address_shows_the_only_pair_of_errors_the_swipe_and_the_blink(
    page: Page, case: Case, browser: Browser
) -> None:
    open_case(page, case, case.first(1, 2))
    page.get_by_text("Classes of errors").click()
    pairs = page.get_by_role("group", name="Which class was taken for which")
    pairs.get_by_role("button", name="bright taken for dark").click()
    page.get_by_text("Classes of errors").click()
    page.get_by_role("group", name="Show", exact=True).get_by_role("button", name="compare").click()
    page.get_by_role("group", name="Compare by").get_by_role("button", name="swipe").click()
    for keys, part in (("[[[", "swipe:0.38"), ("tt", "blink:second")):
        pane(page, "axial", "compare").canvas.focus()
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_function("part => new URL(location).searchParams.get('look')?.includes(part)", arg=part)
        other = browser.new_context(viewport={"width": 1440, "height": 1000})
        try:
            copy = other.new_page()
            copy.goto(page.url)
            wait_until_ready(copy)
            pane(copy, "axial", "errors").canvas.press("x")
            settle(copy)
            label = str(pane(copy, "axial", "errors").canvas.get_attribute("aria-label"))
            assert label.endswith("only bright taken for dark")
            for row in ("errors", "compare"):
                assert pane(copy, "axial", row).picture() == pane(page, "axial", row).picture(), (part, row)
        finally:
            other.close()


def test_unknown_look_in_the_address_is_left_out(page: Page, case: Case) -> None:
    page.goto(
        case.url + "&look=plane:up;show:%25;opacity:7;window:a,b;modality:9;style:;:;colours:red;only:all;swipe:2"
    )
    wait_until_ready(page)
    expect(page.locator("canvas.pane")).to_have_count(3)
    open_menu(page, "Overlay")
    expect(page.get_by_role("slider", name="Opacity")).to_have_value("0.5")


def test_next_case_keeps_position_zoom_and_settings(page: Page, case: Case) -> None:
    shown = open_case(page, case, (9, 12, 8))
    page.keyboard.press("+")
    page.keyboard.press("o")
    open_menu(page, "More")
    page.get_by_role("group", name="Drag").get_by_role("button", name="region").click()
    for key in ("Enter", "ArrowUp"):
        shown.canvas.press(key)
    expect(page.locator(".measured")).to_contain_text("1 voxel")
    page.wait_for_function("() => new URL(location).searchParams.get('at') === '10,13,10'")
    ready, here = page.locator(".root[data-ready]").first, page.url
    before = str(ready.get_attribute("data-ready"))
    step = page.get_by_role("button", name=re.compile("^(Next|Previous)")).and_(page.locator(":enabled")).first
    step.click()
    expect(ready).not_to_have_attribute("data-ready", before)
    wait_until_ready(page)
    assert page.url != here and voxel(page) == (9, 12, 9)
    expect(page.locator(".measured")).to_be_hidden()  # what was measured in another case
    zoomed = shown.at[2]
    shown.canvas.press("0")
    settle(page)
    assert zoomed == pytest.approx(1.25 * shown.at[2], rel=1e-3)
    overlay = page.get_by_role("group", name="Overlay", exact=True)
    open_menu(page, "Overlay")
    expect(overlay.get_by_role("button", name="outline")).to_have_attribute("aria-pressed", "true")
