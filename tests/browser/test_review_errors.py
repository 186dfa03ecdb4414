"""Errors on the Review page in a real browser: colours by kind and by class, the list of errors, Dice per slice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.support.accessibility import findings
from tests.support.balls import COLOURS
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, expect_colour, expect_grey, hand_made_case, mistakes, open_case
from tests.support.viewers import settle, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]

VOXEL_ML = 0.0015  # 1 x 1 x 1.5 mm
FALSE_POSITIVE, WRONG_CLASS = "#ff9f40", "#c72fb0"

PAIRS = {"wrong class": (1, 2), "false negative": (2, 0), "false positive": (0, 1)}
COLOURED = """c => {
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    const grey = (p) => Math.max(d[p], d[p + 1], d[p + 2]) - Math.min(d[p], d[p + 1], d[p + 2]) <= 30;
    let n = 0;
    for (let p = 0; p < d.length; p += 4) if (!grey(p)) n++;
    return n / (d.length / 4);
}"""
REFUSED_ONCE = """
    const plain = window.fetch;
    let refused = false;
    window.fetch = async (...all) => {
        const answer = await plain(...all), text = refused ? '' : await answer.clone().text();
        if (!text.startsWith('{"subject"')) return answer;
        refused = true;
        return new Response('ball: the search for errors failed', { status: 422 });
    };
"""


@pytest.fixture
def case(quiz_server: Server, quiz_run: QuizRun) -> Iterator[Case]:
    """A false block, a missed ball, and a ball of the wrong class."""
    with hand_made_case(quiz_server, quiz_run, mistakes) as made:
        yield made


def test_each_error_has_the_colour_of_its_kind_or_of_its_classes_and_can_be_hidden(page: Page, case: Case) -> None:
    wrong = case.first(1, 2)
    shown = open_case(page, case, wrong)
    expect_colour(shown, case, wrong, WRONG_CLASS)
    readout = page.locator(".readout")
    expect(readout).to_contain_text("errorbright taken for dark")
    kinds = page.get_by_role("group", name="Errors", exact=True)
    counted = int(((case.truth == 1) & (case.prediction == 2)).sum()) * VOXEL_ML
    expect(kinds.get_by_role("button", name="wrong class")).to_contain_text(f"{counted:.2g} ml")
    page.get_by_text("Classes of errors").click()
    by = page.get_by_role("group", name="Errors in the colours of")
    for colouring, colour in (("reference", COLOURS[1]), ("prediction", COLOURS[2])):
        by.get_by_role("button", name=colouring).click()
        settle(page)
        expect_colour(shown, case, wrong, colour, colouring)
    by.get_by_role("button", name="kind").click()
    page.get_by_text("Classes of errors").click()
    kinds.get_by_role("button", name="wrong class").click()
    settle(page)
    expect_grey(shown, case, wrong, "hidden")
    assert "wrong class hidden" in str(shown.canvas.get_attribute("aria-label"))
    kinds.get_by_role("button", name="wrong class").click(modifiers=["Alt"])  # only these
    expect(kinds.get_by_role("button", pressed=True)).to_have_count(1)
    kinds.get_by_role("button", name="wrong class").click(modifiers=["Alt"])
    expect(kinds.get_by_role("button", pressed=True)).to_have_count(3)


def test_hidden_classes_hide_their_errors_but_change_no_kind(page: Page, case: Case) -> None:
    wrong = case.first(1, 2)
    shown = open_case(page, case, wrong)
    classes = page.get_by_role("group", name="Classes", exact=True)
    classes.get_by_role("button", name="dark").click()
    settle(page)
    expect_colour(shown, case, wrong, WRONG_CLASS, "not a false negative")
    classes.get_by_role("button", name="bright").click()
    settle(page)
    expect_grey(shown, case, wrong)
    expect(page.get_by_text("hidden by the legend")).to_be_visible()
    for name in ("dark", "bright"):
        classes.get_by_role("button", name=name).click()
    page.get_by_text("Classes of errors").click()
    pairs = page.get_by_role("group", name="Which class was taken for which")
    expect(pairs.get_by_role("button")).to_have_count(4)  # all, and three pairs
    pairs.get_by_role("button", name="false positive, bright").click()
    settle(page)
    expect_grey(shown, case, wrong)
    page.locator(".findings .card").first.click()
    at = voxel(page)
    assert (case.truth[at], case.prediction[at]) == (0, 1)
    expect_colour(shown, case, at, FALSE_POSITIVE)


def test_keys_lead_from_the_largest_error_to_the_next_without_a_request(page: Page, case: Case) -> None:
    open_case(page, case, (10, 12, 9))
    expect(page.locator(".findings .card").first).to_be_visible()
    settle(page)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    sizes = {kind: int(((case.truth == t) & (case.prediction == p)).sum()) for kind, (t, p) in PAIRS.items()}
    order = sorted(sizes, key=lambda kind: -sizes[kind])
    page.locator("body").focus()
    for number, kind in enumerate(order):
        page.keyboard.press("e")  # from anywhere on the page
        expect(page.locator(".findings")).to_have_attribute("data-selected", str(number))
        at = voxel(page)
        assert (case.truth[at], case.prediction[at]) == PAIRS[kind], kind
        card = page.locator(f".card[data-number='{number}']")
        expect(card).to_have_attribute("aria-pressed", "true")
        expect(card).to_contain_text(f"{sizes[kind] * VOXEL_ML:.2g} ml")
    page.keyboard.press("Shift+E")
    expect(page.locator(".findings")).to_have_attribute("data-selected", "1")
    page.get_by_role("textbox", name="Go to coordinates").focus()
    page.keyboard.press("e")
    expect(page.locator(".findings")).to_have_attribute("data-selected", "1")  # a letter in a field is a letter
    assert [url for url in requested if "/api/" in url] == []


def test_after_the_key_of_errors_the_keys_of_a_pane_work_at_once_and_help_opens_from_anywhere(
    page: Page, case: Case
) -> None:
    open_case(page, case, (10, 12, 9))
    expect(page.locator(".findings .card").first).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    expect(page.locator(".help")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator(".help")).to_be_hidden()
    page.keyboard.press("e")
    expect(page.locator(".findings")).to_have_attribute("data-selected", "0")
    at = voxel(page)
    page.keyboard.press("ArrowUp")
    assert voxel(page) == (*at[:2], at[2] + 1), "the next axial slice"
    page.get_by_role("button", name="Next error (E)").focus()
    page.keyboard.press("e")
    expect(page.get_by_role("button", name="Next error (E)")).to_be_focused()  # what has the focus keeps it


def test_picture_of_an_error_shows_it(page: Page, case: Case) -> None:
    open_case(page, case, (10, 12, 9))
    picture = page.locator(".findings .card").first.locator("canvas")
    expect(picture).to_be_visible()
    settle(page)
    assert 0.05 < picture.evaluate(COLOURED) < 0.9
    assert findings(page) == [], "axe finds nothing on the page with the list"


def test_dice_of_slices_along_each_axis_moves_by_click_and_keys(page: Page, case: Case) -> None:
    open_case(page, case, (10, 12, 9))
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):
        chart = page.get_by_role("slider", name=f"Dice per {plane} slice")
        box = chart.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 2, box["y"] + 20)
        assert voxel(page)[axis] == 0
        page.keyboard.press("ArrowRight")
        assert voxel(page)[axis] == 1
        page.keyboard.press("End")
        assert voxel(page)[axis] == case.truth.shape[axis] - 1
        expect(chart).to_have_attribute("aria-valuenow", str(case.truth.shape[axis]))


def test_list_that_cannot_be_made_says_so_and_can_be_asked_for_again(page: Page, case: Case) -> None:
    page.add_init_script(REFUSED_ONCE)
    page.goto(case.url)
    wait_until_ready(page)
    expect(page.get_by_text("the search for errors failed")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".findings .card").first).to_be_visible()
