"""Kept epochs of a run on Review, in a real browser: a slider and keys show how the segmentation of a case formed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from core.checkpointing.metadata import read_metadata
from core.cli import main
from tests.browser.conftest import Server
from tests.support.accessibility import findings
from tests.support.kept_epochs import keep_epochs
from tests.support.quiz_runs import QuizRun
from tests.support.viewers import coloured_pixels, pane, settle, volume_requests, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def address(quiz_server: Server, quiz_run: QuizRun) -> Iterator[str]:
    """A case that the kept epochs have segmented."""
    folder = quiz_server.checkpoints / quiz_run.run
    keep_epochs(folder)
    subject = next(iter(read_metadata(folder / "best.safetensors").split["val"]))
    options = [f"--data={quiz_run.data}", f"--checkpoints={quiz_server.checkpoints}"]
    assert main(["review", "epochs", quiz_run.run, subject, *options]) == 0
    yield f"{quiz_server.url}/review?model={quiz_run.run}&case={subject}"
    for file in folder.glob("epoch-*.safetensors"):
        file.unlink()


def test_slider_and_keys_show_the_epochs_and_a_link_opens_the_same_one(
    page: Page, browser: Browser, address: str
) -> None:
    requested = volume_requests(page)
    page.goto(address)
    wait_until_ready(page)
    bar = page.get_by_role("group", name="Kept epochs", exact=True)
    slider, shown = bar.get_by_role("slider", name="Kept epoch"), pane(page, "axial", "epoch")
    bar.get_by_role("button", name="epoch", exact=True).click()
    expect(shown.canvas).to_have_attribute("data-waiting", "false")
    expect(shown.canvas).to_have_attribute("aria-label", re.compile("epoch 4"))
    expect(bar).to_contain_text("Dice 0.")
    shown.canvas.focus()
    page.keyboard.press("x")  # the crosshair is coloured
    settle(page)
    assert coloured_pixels(shown) > 100
    page.keyboard.press(",")
    expect(shown.canvas).to_have_attribute("aria-label", re.compile("epoch 3"))
    page.keyboard.press(",")
    expect(shown.canvas).to_have_attribute("aria-label", re.compile("epoch 1"))
    expect(shown.canvas).to_have_attribute("data-waiting", "false")
    expect(bar).to_contain_text("epoch 1, Dice 0.000")
    settle(page)
    assert coloured_pixels(shown) == 0, "the first network says nothing"
    bar.get_by_role("button", name="its errors").click()
    errors = page.locator("canvas.pane[data-plane=axial][data-row='epoch errors']")
    expect(errors).to_have_attribute("aria-label", re.compile("errors, epoch 1"))
    expect(page.locator(".readout")).to_contain_text("epoch 1")
    slider.focus()
    for _ in range(2):
        page.keyboard.press("ArrowUp")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^epoch 4.*, Dice 0"))
    settle(page)
    assert coloured_pixels(shown) > 100 and len(requested) == len(set(requested)), "what is there is not fetched again"
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile("look=.*epoch%25203"))
    assert findings(page) == [], "axe finds nothing on the page"
    copied = browser.new_context().new_page()
    copied.goto(page.url)
    wait_until_ready(copied)
    expect(pane(copied, "axial", "epoch").canvas).to_have_attribute("aria-label", re.compile("epoch 3"))
    copied.context.close()


def test_epochs_are_played_from_the_first_to_the_last(page: Page, address: str) -> None:
    page.goto(address)
    wait_until_ready(page)
    bar = page.get_by_role("group", name="Kept epochs", exact=True)
    play = bar.get_by_role("button", name="Play the epochs")
    play.click()
    expect(bar).to_contain_text("epoch 1, Dice")
    expect(play).to_have_attribute("aria-pressed", "true")
    expect(bar).to_contain_text("epoch 4")
    expect(play).to_have_attribute("aria-pressed", "false")
