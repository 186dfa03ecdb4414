"""The pages Data and Train in a real browser: pictures at the top, settings in words, a preview of the sub-volumes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.support.heads import write_heads
from tests.support.held_connection import HeldConnection
from tests.support.viewers import COMPLETE, wait_until_ready

pytestmark = pytest.mark.browser
TOP = 400  # pixels above which a picture begins


@pytest.mark.long
def test_pictures_are_at_the_top_and_settings_are_words(server: Server, page: Page) -> None:
    if not (server.data / "heads").exists():
        write_heads(server.data / "heads", 5)
    page.goto(f"{server.url}/data?data=heads")
    first = page.get_by_role("img", name="Middle slice of case_1")
    expect(first).to_be_visible(timeout=120_000)
    for width in (1440, 820):
        page.set_viewport_size({"width": width, "height": 900})
        box = first.bounding_box()
        assert box is not None and box["y"] < TOP, width
    page.get_by_text("Slice by slice").click()
    wait_until_ready(page)
    box = page.locator("canvas").first.bounding_box()
    assert box is not None and box["y"] < TOP + 100, "below the toolbar of the viewer"

    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("button", name="Train on this").click()
    expect(page.get_by_role("textbox", name="Time budget (minutes)")).to_have_value("10.0")
    expect(page.get_by_text("Chosen for this time and this data")).to_be_visible()
    page.get_by_role("paragraph").filter(has_text=re.compile("^Augmentation$")).click()
    expect(page.get_by_role("textbox", name="Probability of a left-right flip")).to_have_value("0.5")
    expect(page.get_by_text(" per epoch").first).to_contain_text(" to ")
    page.get_by_text("Preview the sub-volumes").click()
    expect(page.get_by_text("90 % centred on a class", exact=True)).to_be_visible(timeout=120_000)
    expect(page.get_by_role("img", name="Middle axial slice")).to_be_visible()


@pytest.mark.long(25)
@pytest.mark.slow
def test_augmentation_is_shown_while_its_settings_change(server: Server, page: Page) -> None:
    if not (server.data / "heads").exists():
        write_heads(server.data / "heads", 5)
    page.goto(f"{server.url}/train?data=heads&preset=quick&set=flip~0.0~sub_volume~16x16x16")
    page.get_by_text("Preview the augmentation").click()
    plain = page.get_by_role("img", name="Plain sub-volume, CT: as it is, with labels")
    expect(plain).to_be_visible(timeout=120_000)
    augmented = page.get_by_role("img", name=re.compile("^Augmented version"))
    before = plain.get_attribute("src")
    expect(augmented).to_have_count(4)
    pictures_before = [picture.get_attribute("src") for picture in augmented.all()]
    page.get_by_role("paragraph").filter(has_text=re.compile("^Augmentation( 1 changed)?$")).click()
    field = page.get_by_role("textbox", name="Probability of a left-right flip")
    field.fill("1")
    field.press("Enter")
    mirrored = page.get_by_role("img", name=re.compile("^Augmented version [1-4], CT: .*mirrored left-right"))
    expect(mirrored).to_have_count(4, timeout=60_000)
    assert plain.get_attribute("src") == before, "the plain one stays"
    for picture, earlier in zip(mirrored.all(), pictures_before, strict=True):
        assert picture.get_attribute("src") != earlier
    another = page.get_by_role("button", name="Another sub-volume")
    another.focus()
    page.keyboard.press("Enter")
    expect(plain).not_to_have_attribute("src", str(before), timeout=60_000)


@pytest.mark.slow
def test_time_budget_is_kept_although_the_next_edit_comes_before_the_answer(server: Server, page: Page) -> None:
    """The browser still shows, and sends, the answer of the first question that the time budget has replaced."""
    connection = HeldConnection(page)
    page.goto(f"{server.url}/train?preset=quick")
    page.wait_for_selector(COMPLETE)
    expect(page.get_by_role("radio", name="2 minutes")).to_be_checked()
    connection.hold()
    for label, value in (("Time budget (minutes)", "0.5"), ("Sub-volumes per epoch", "8")):
        field = page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
        connection.wait_for(value.encode())
    connection.release()
    expect(page.get_by_text("--samples-train 8")).to_be_visible()
    expect(page.get_by_text("--minutes 0.5")).to_be_visible()
    expect(page.get_by_role("radio", checked=True)).to_have_count(1)  # the preset, and no answer
    page.get_by_role("radio", name="10 minutes").click()
    expect(page.get_by_label("Time budget (minutes)", exact=True)).to_have_value("10.0")
    expect(page.get_by_role("radio", name="10 minutes")).to_be_checked()
