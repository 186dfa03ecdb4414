"""Classes on the Review page in a real browser: colours that a person chooses, one class alone, the list by keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from core.colours import rgb
from tests.browser.conftest import Server
from tests.support.accessibility import findings, focused
from tests.support.balls import COLOURS
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, expect_colour, hand_made_case, mistakes, open_case
from tests.support.viewers import Pane, pane, settle, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]
CHOSEN = "#00ff7f"
IN_LIST = """() => {
    let e = document.activeElement;
    while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
    return e.classList.contains('case');
}"""


@pytest.fixture
def case(quiz_server: Server, quiz_run: QuizRun) -> Iterator[Case]:
    """A false block, a missed ball, and a ball of the wrong class."""
    with hand_made_case(quiz_server, quiz_run, mistakes) as made:
        yield made


def css(colour: str) -> str:
    return "rgb({}, {}, {})".format(*rgb(colour))


def truth_without_crosshair(page: Page) -> Pane:
    page.get_by_text("Overlay", exact=True).click()
    page.get_by_role("slider", name="Opacity").fill("1")
    page.keyboard.press("Escape")
    shown = pane(page, "axial", "truth")
    shown.canvas.focus()
    page.keyboard.press("x")
    settle(page)
    return shown


def test_a_colour_is_used_by_panes_legend_and_list_and_is_kept_and_copied(
    page: Page, browser: Browser, case: Case
) -> None:
    at = case.first(1, 2)  # class "bright" of the reference
    open_case(page, case, at)
    truth = pane(page, "axial", "truth")
    expect_colour(truth, case, at, COLOURS[1])
    page.locator("summary").get_by_text("Classes", exact=True).press("Enter")
    page.get_by_label("Colour of bright").fill(CHOSEN)
    settle(page)
    expect_colour(truth, case, at, CHOSEN)
    mark = page.get_by_role("group", name="Classes", exact=True).get_by_role("button", name="bright").locator("i")
    expect(mark).to_have_css("background-color", css(CHOSEN))
    bar = page.locator(".case[aria-selected=true] .bars b").first
    expect(bar).to_have_css("background-color", css(CHOSEN))
    expect(page.locator("table i").first).to_have_css("background-color", css(CHOSEN))
    assert findings(page) == [], "axe finds nothing on the page with the menu"
    expect(page).to_have_url(re.compile("palette"))
    for width, scheme in ((800, "dark"), (1440, "light")):
        page.set_viewport_size({"width": width, "height": 1000})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        settle(page)
        panel = page.locator(".classes .panel").bounding_box()
        assert panel is not None and panel["x"] >= 0 and panel["x"] + panel["width"] <= width
    copied = browser.new_context().new_page()
    copied.goto(page.url)
    wait_until_ready(copied)
    expect_colour(truth_without_crosshair(copied), case, at, CHOSEN)
    copied.context.close()
    page.goto(case.url + "&at=" + ",".join(str(n + 1) for n in at))  # without a look
    wait_until_ready(page)
    expect_colour(truth_without_crosshair(page), case, at, CHOSEN)
    expect(page.locator(".case[aria-selected=true] .bars b").first).to_have_css("background-color", css(CHOSEN))
    page.locator("summary").get_by_text("Classes", exact=True).click()
    page.get_by_role("button", name="Reset colours").click()
    settle(page)
    expect_colour(pane(page, "axial", "truth"), case, at, COLOURS[1])
    expect(page.locator(".case[aria-selected=true] .bars b").first).to_have_css("background-color", css(COLOURS[1]))
    expect(page).not_to_have_url(re.compile("palette"))


def test_one_kind_of_errors_and_one_class_are_shown_by_keys_alone(page: Page, case: Case) -> None:
    page.goto(case.url)
    wait_until_ready(page)
    chips = page.get_by_role("group", name="Classes", exact=True)
    chips.get_by_role("button", name="dark").press("Alt+Enter")
    expect(chips.get_by_role("button", pressed=True)).to_have_count(1)
    chips.get_by_role("button", name="dark").press("Alt+Enter")
    expect(chips.get_by_role("button", pressed=False)).to_have_count(0)
    page.get_by_text("Classes of errors").press("Enter")
    only = page.get_by_role("group", name="Show only errors of the kind").get_by_role("button", name="wrong class")
    only.press("Enter")
    kinds = page.get_by_role("group", name="Errors", exact=True)
    expect(kinds.get_by_role("button", pressed=True)).to_have_count(1)
    expect(only).to_be_focused()
    only.press("Enter")
    expect(kinds.get_by_role("button", pressed=True)).to_have_count(3)
    pairs = page.get_by_role("group", name="Which class was taken for which")
    pairs.get_by_role("button", name="false positive, bright").press("Enter")
    expect(pairs.get_by_role("button", name="false positive, bright")).to_be_focused()
    assert findings(page) == []


def test_dots_of_the_strip_plot_open_their_cases_and_the_list_is_one_stop(page: Page, case: Case) -> None:
    scripts: list[str] = []
    page.on("request", lambda request: scripts.append(request.url))
    page.goto(case.url)
    wait_until_ready(page)
    rows = page.locator(".case")
    expect(page.locator(".plot .dot")).to_have_count(rows.count())
    expect(page.locator(".case[tabindex='0']")).to_have_count(1)
    chosen = str(page.locator(".plot .dot.selected title").text_content()).split(":")[0]
    other = page.locator(".plot .dot:not(.selected)").first
    id = str(other.locator("title").text_content()).split(":")[0]
    assert id != chosen
    box = other.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).to_have_url(re.compile(f"case={id}"))
    expect(page.locator(".case[aria-selected=true]")).to_contain_text(id)
    wait_until_ready(page)
    page.locator(".case[tabindex='0']").focus()
    page.keyboard.press("End")
    expect(rows.last).to_be_focused()
    page.keyboard.press("Tab")
    assert not page.evaluate(IN_LIST), focused(page)
    assert not any("plotly" in url.lower() for url in scripts), "no figure: the browser does not load plotly"
    page.goto(case.url + "&view=figures")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert any("plotly" in url.lower() for url in scripts)
