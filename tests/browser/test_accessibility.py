"""Every page by keyboard and for screen readers: nothing of ours that axe finds, a visible focus, a pane nearby."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server
from tests.support.accessibility import findings, focused
from tests.support.run_folders import make_run
from tests.support.viewers import COMPLETE, settle, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FOOTER = "For research and teaching, not a medical device."


@dataclass(frozen=True)
class Form:
    """How a page is looked at: width of the window in pixels, and theme."""

    width: int
    scheme: Literal["light", "dark"]


FORMS = (Form(1440, "light"), Form(800, "dark"))


def show(page: Page, form: Form) -> None:
    """Give the page a width and a theme, and wait until it has them."""
    page.set_viewport_size({"width": form.width, "height": 900})
    page.emulate_media(color_scheme=form.scheme)
    page.wait_for_function(
        """([width, dark]) => {
            const colour = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor;
            const levels = colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
            return innerWidth === width && Math.max(...levels) < 128 === dark;
        }""",
        arg=[form.width, form.scheme == "dark"],
    )
    expect(page.locator(COMPLETE)).to_be_visible()  # another theme runs the page again; stale elements are dimmed
    expect(page.locator("[data-stale=true]")).to_have_count(0)
    settle(page)


@pytest.mark.long(40)
def test_axe_finds_nothing_on_pages_with_content(quiz_server: Server, server: Server, browser: Browser) -> None:
    """Each page wide in the light theme and narrow in the dark one; it is loaded as the page before was left."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page = context.new_page()
    found: dict[str, list[str]] = {}
    missing: list[str] = []
    page.on("response", lambda r: missing.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    forms = [FORMS[0], FORMS[1]]

    def check(state: str) -> None:
        for form in forms:
            show(page, form)
            found.update({f"{state}, {form.scheme}": problems} if (problems := findings(page)) else {})
        forms.reverse()

    def open_page(path: str) -> None:
        page.goto(f"{quiz_server.url}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text(FOOTER)).to_be_visible()

    open_page("train?data=balls")
    for section in page.locator("summary").all():  # all settings
        section.click()
    check("train, all settings")
    for path in ("", "learn", "predict", "predict?images=Data+set&data=balls"):
        open_page(path)
        check(path)
    open_page("data?data=balls&view=Slice+by+slice")
    expect(page.get_by_text(re.compile("eady for training"))).to_be_visible()
    wait_until_ready(page)
    check("data, a subject")
    run = make_run(server.checkpoints, "running", "running")
    page.goto(f"{server.url}/runs?run={run}")
    expect(page.locator("[data-points]").first).to_have_attribute("data-points", re.compile("[1-9]"))
    check("runs")
    open_page("review?model=nope")
    wait_until_ready(page)
    check("review, with an unknown model in the address")
    open_page("quiz")
    check("quiz, settings")
    page.get_by_role("button", name="Play").click()
    wait_until_ready(page)
    check("quiz, a question")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("1")
    expect(page.locator(".root[data-state=answered]")).to_be_visible()
    check("quiz, its answer")
    context.close()
    assert missing == [], "no page asks for what is not there"
    assert found == {}, "\n".join(f"{state}: {one}" for state, all in found.items() for one in all)


def stops_to_the_first_pane(page: Page) -> list[dict[str, str]]:
    """What has the focus after each press of the Tab key, until a pane has it."""
    stops: list[dict[str, str]] = []
    while not stops or (stops[-1]["tag"] != "CANVAS" and len(stops) < 30):
        page.keyboard.press("Tab")
        stops.append(focused(page))
    assert stops[-1]["tag"] == "CANVAS"
    return stops


@pytest.mark.long
def test_focus_is_visible_and_the_first_pane_is_near(quiz_server: Server, server: Server, page: Page) -> None:
    data = f"{quiz_server.url}/data?data=balls&view=Slice+by+slice"
    for url in (f"{quiz_server.url}/review", data, f"{server.url}/learn"):
        page.goto(url)
        wait_until_ready(page)
        page.wait_for_selector(COMPLETE)
        stops = stops_to_the_first_pane(page)
        assert len(stops) <= 10, (url, [stop["name"] for stop in stops])
        invisible = [s for s in stops if s["outline"] in ("", "0px") and s["shadow"] == "none"]
        assert invisible == []
        assert stops[0]["name"] == "Skip to the image"
        page.get_by_text("Skip to the image", exact=True).focus()
        assert focused(page)["tag"] == "BUTTON"
        page.keyboard.press("Enter")
        assert focused(page)["tag"] == "CANVAS"
    page.goto(f"{quiz_server.url}/quiz")
    page.get_by_role("button", name="Play").click()
    wait_until_ready(page)
    assert len(stops_to_the_first_pane(page)) <= 5


@pytest.mark.long
def test_arrow_keys_move_between_the_links_of_the_navigation(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/learn")
    links = page.get_by_test_id("stTopNavLink")
    expect(links).to_have_count(8)
    while "stTopNavLink" not in str(page.evaluate("document.activeElement.dataset.testid")):
        page.keyboard.press("Tab")
    expect(links.filter(has_text="Learn")).to_be_focused()
    for key, name in (("ArrowRight", "Data"), ("End", "Quiz"), ("ArrowRight", "Home"), ("ArrowLeft", "Quiz")):
        page.keyboard.press(key)
        expect(links.filter(has_text=name)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Quiz")
