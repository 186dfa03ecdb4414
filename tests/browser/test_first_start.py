"""The pages of a fresh server in the order of a first visit: what they need is shipped, or made while they are open."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.support.viewers import coloured_pixels, pane, rest_pointer, settle, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def fresh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the ready-made model and nothing else."""
    server = Server(tmp_path_factory.mktemp("fresh-server"))
    yield server
    server.stop()


@pytest.mark.long
def test_deep_link_is_the_first_page_of_a_fresh_server(fresh_server: Server, page: Page) -> None:
    page.goto(f"{fresh_server.url}/train")
    expect(page.get_by_role("heading", level=1)).to_have_text("Train")
    expect(page.get_by_role("button", name="Start training")).to_be_visible()
    for width in (800, 900, 1000):  # the start page has a picture until something ran
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(fresh_server.url)
        box = page.get_by_role("img", name="Slices of a synthetic brain").bounding_box()
        assert box is not None and box["x"] + box["width"] <= width


@pytest.mark.long
def test_learn_fills_its_figures(fresh_server: Server, page: Page) -> None:
    page.goto(f"{fresh_server.url}/learn")
    expect(page.get_by_role("application", name="The predicted mask over the true one")).to_be_visible()
    expect(page.get_by_role("img", name="Histogram of T1 intensities by tissue")).to_be_visible(timeout=2 * MINUTE_MS)
    expect(page.get_by_role("slider", name="Drawn")).to_be_visible(timeout=2 * MINUTE_MS)


def test_one_click_on_home_shows_a_segmented_brain_that_nothing_had_to_be_computed_for(
    fresh_server: Server, page: Page
) -> None:
    page.goto(fresh_server.url)
    look, train = (page.get_by_role("button", name=n) for n in ("Look at a trained model", "Train on the demo data"))
    first, second = look.bounding_box(), train.bounding_box()
    assert first is not None and second is not None and first["height"] == second["height"]
    look.click()
    expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible()
    assert not list(fresh_server.checkpoints.glob(".cache/segment/*")), "no job was needed"
    wait_until_ready(page)
    expect(page.locator("canvas.pane")).to_have_count(3)  # one plane: truth, prediction, errors
    expect(page.get_by_text("synthetic", exact=False).first).to_be_visible()
    page.keyboard.press("Escape")
    truth, prediction = pane(page, "axial", "truth"), pane(page, "axial", "prediction")
    assert coloured_pixels(truth) > 500 and coloured_pixels(prediction) > 500
    assert truth.picture() != prediction.picture() and truth.at == prediction.at
    assert truth.letters == prediction.letters == "RLAP", "the demo data states its orientation"
    before, picture = voxel(page), prediction.picture()
    rest_pointer(prediction)
    page.mouse.wheel(0, -100)
    settle(page)
    assert prediction.slice == truth.slice == before[2] + 1 and prediction.picture() != picture
    prediction.canvas.press("PageUp")
    settle(page)
    assert truth.slice == before[2] + 11
    expect(page.get_by_role("option", name="subject-1")).to_contain_text("0.918")
    page.wait_for_function("n => new URL(location).searchParams.get('at')?.endsWith(`,${n}`)", arg=before[2] + 12)
    page.reload()
    wait_until_ready(page)
    assert voxel(page)[2] == before[2] + 11, "the URL keeps the crosshair"


def test_quiz_makes_missing_predictions_and_begins(fresh_server: Server, page: Page) -> None:
    page.goto(f"{fresh_server.url}/quiz")
    page.get_by_role("button", name=re.compile("^.*(Prepare and play|Play)$")).click()
    expect(page.get_by_label("question 1 of 20")).to_be_visible(timeout=5 * MINUTE_MS)
    page.wait_for_selector(".root[data-voxel]")
    expect(page.locator("canvas.pane")).to_have_count(2)
