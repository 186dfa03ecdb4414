"""Classes of the viewer by keyboard and touch, without a server: chosen colours, which are kept, and one alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from core.paths import project_root
from tests.support.accessibility import findings
from ui.viewer.look import class_colours, recoloured

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPTS = (
    "elements", "geometry", "menu", "remembered", "class_menu", "slices", "windows", "legend", "errors", "second",
    "compare", "look",
)  # fmt: skip
ODD = "a=b;c:d,e%"  # a class name with all separators of an address
OWN = {"CSF": "#4A90D9", ODD: "#e0b000", "WM": "#d55e00"}
CLASSES = [{"name": name, "colour": colour} for name, colour in OWN.items()]
# A viewer as far as the menu of classes, chips and the look need one; chips stand in a toolbar as in the viewer.
VIEWER = """given => {
    const bar = element("div"), chips = element("div", "legend"), nothing = { look: "", isShown: false };
    window.viewer = {
        settings: {
            hidden: new Set(), windows: new Map(), hiddenErrors: new Set(), channel: 0, style: "fill", opacity: 0.5,
            compare: "blink", swipe: 0.5, errorColouring: "kind",
        },
        data: { rows: [], plane: "all", planes: [], channels: [{}] }, chosen: {}, rows: [], plane: "all", ignore: null,
        surfaces: nothing, epochs: nothing,
        get hasOwnColours() { return this.classes.some(({ name }) => classColours.has(name)); },
        updateColours() { this.classes = recoloured(given); },
        legend: { changed() { build(); } },
    };
    viewer.windows = new Windows(viewer);
    const fill = oneTabStop(bar, "Viewer");
    viewer.updateColours();
    const menu = new ClassMenu(viewer), names = given.map((c) => c.name);
    const build = () => {
        fill(chips, ...names.map((name) => chip(name, names, viewer.settings.hidden, build)));
        menu.build(viewer.classes);
    };
    bar.append(chips, menu.root);
    const root = element("main", "root");
    root.append(text("h1", "Viewer"), bar);
    document.body.append(root);
    build();
}"""
COLOURS = "viewer.classes.map((c) => c.colour)"
HIDDEN = "[...viewer.settings.hidden].sort()"


def load(page: Page, url: str = "http://viewer.test/") -> None:
    page.route(
        url,
        lambda route: route.fulfill(
            content_type="text/html", body="<!doctype html><html lang=en><title>t</title><body>"
        ),
    )
    page.goto(url)  # a page with a storage
    folder = project_root() / "ui" / "viewer"
    page.add_style_tag(path=folder / "viewer.css")
    for name in SCRIPTS:
        page.add_script_tag(content=(folder / f"{name}.js").read_text("utf-8"))
    page.evaluate("kinds => { window.ERROR_KINDS = kinds; }", [])
    page.evaluate(VIEWER, CLASSES)


def test_a_class_gets_a_colour_that_the_browser_remembers_until_it_is_reset(page: Page) -> None:
    load(page)
    own = [c["colour"] for c in CLASSES]
    page.get_by_text("Classes", exact=True).press("Enter")
    reset = page.get_by_role("button", name="Reset colours")
    expect(reset).to_be_disabled()
    expect(page.get_by_label("Colour of CSF")).to_have_value("#4a90d9")
    page.get_by_label("Colour of CSF").fill("#00ff7f")
    page.get_by_label(f"Colour of {ODD}").fill("#123456")
    assert page.evaluate(COLOURS) == ["#00ff7f", "#123456", own[2]]
    assert findings(page) == []
    look = str(page.evaluate("lookOf(viewer)"))
    assert class_colours(look) == {"CSF": "#00ff7f", ODD: "#123456"}
    assert [c["colour"] for c in recoloured(CLASSES, look)] == ["#00ff7f", "#123456", own[2]]
    load(page)
    assert page.evaluate(COLOURS) == ["#00ff7f", "#123456", own[2]]
    page.get_by_text("Classes", exact=True).click()
    page.get_by_label("Colour of CSF").fill("#4a90d9")  # its own one
    assert class_colours(str(page.evaluate("lookOf(viewer)"))) == {ODD: "#123456"}
    reset.click()
    assert page.evaluate(COLOURS) == own and page.evaluate("lookOf(viewer)") == ""
    assert page.evaluate("localStorage.getItem('segmentarium.colours')") == "{}"
    page.evaluate("look => { applyLook(viewer, look); viewer.updateColours(); }", look)
    assert page.evaluate(COLOURS) == ["#00ff7f", "#123456", own[2]], "a link has the colours of its sender,"
    assert page.evaluate("localStorage.getItem('segmentarium.colours')") == "{}", "which are not kept"
    page.evaluate("applyLook(viewer, 'palette:CSF%3Dred,%3D00ff00,WM%3D0000ff')")
    page.evaluate("viewer.updateColours()")
    assert page.evaluate(COLOURS) == ["#00ff7f", "#123456", "#0000ff"], "what is no colour is left out"


def test_keys_show_only_one_class(page: Page) -> None:
    load(page)
    first = page.locator(".legend").get_by_role("button", name="CSF")
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Alt+Enter")
    assert page.evaluate(HIDDEN) == sorted(["CSF", ODD])
    expect(page.locator(".legend").get_by_role("button", name="WM")).to_be_focused()
    page.keyboard.press("Alt+Enter")
    assert page.evaluate(HIDDEN) == []
    page.keyboard.press("Enter")
    assert page.evaluate(HIDDEN) == ["WM"], "without Alt it hides"
    page.get_by_text("Classes", exact=True).press("Enter")
    only = page.get_by_role("button", name="Show only CSF")
    only.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(HIDDEN) == sorted(["WM", ODD])
    expect(only).to_be_focused()
    expect(only).to_have_attribute("aria-pressed", "true")


def test_fingers_show_only_one_class(browser: Browser) -> None:
    context = browser.new_context(has_touch=True)
    page = context.new_page()
    load(page)
    page.get_by_text("Classes", exact=True).tap()
    page.get_by_role("button", name="Show only WM").tap()
    assert page.evaluate(HIDDEN) == sorted(["CSF", ODD])
    page.get_by_role("button", name="Show only WM").tap()
    assert page.evaluate(HIDDEN) == []
    context.close()


@pytest.mark.parametrize(
    "look", ["", "palette:", "style:both", "palette:CSF", "palette:CSF%3Dred;x", "palette:%3Dffffff"]
)
def test_looks_without_colours_have_none(look: str) -> None:
    assert class_colours(look) == {}
