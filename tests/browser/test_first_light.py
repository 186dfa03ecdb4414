"""From the Train page to a finished run: the chart is updated without reload, also after a restart of the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core import runs
from tests.browser.conftest import Server
from tests.support.balls import write_balls
from tests.support.run_chart import point_count, wait_for_more_points
from tests.support.train_page import press_start
from tests.support.viewers import COMPLETE

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE_MS = 60_000
SMALL = "threads~1~batch_size~1~sub_volume~16,16,16"  # on one core: the pages need the other
BUDGET_MIN = "0.5"  # long enough for the server to be restarted during training on a busy machine


@pytest.mark.long(50)
@pytest.mark.fault(4, "web server killed while a run trains: the run continues, the page reconnects to the next server")
def test_run_started_on_the_page_finishes_although_the_server_is_killed(tmp_path: Path, page: Page) -> None:
    write_balls(tmp_path / "data" / "balls")
    server = Server(tmp_path, demo_model=False)
    try:
        page.goto(f"{server.url}/train?data=balls&preset=quick&set={SMALL}")
        fill(page, "Time budget (minutes)", BUDGET_MIN)
        fill(page, "Sub-volumes per epoch", "8")
        fill(page, "Name of the run", "first light")
        expect(page.get_by_text(f"--minutes {BUDGET_MIN}")).to_be_visible()
        press_start(page)
        expect(page.get_by_role("heading", name="first light")).to_be_visible(timeout=MINUTE_MS)
        (run,) = runs.list_runs(server.checkpoints)
        assert f"run={run.id}" in page.url
        page.evaluate("window.sameDocument = true")
        wait_for_more_points(page, 0)
        wait_for_more_points(page, point_count(page))
        badge = page.get_by_test_id("stBadge").or_(page.locator(".stMarkdownBadge"))
        expect(badge.filter(has_text="running").first).to_be_visible(timeout=MINUTE_MS)
        review_button = page.get_by_role("button", name="Review", exact=True)
        expect(review_button).to_be_enabled(timeout=MINUTE_MS)  # the first checkpoint, with which the page is sent anew
        expect(page.locator(COMPLETE)).to_be_visible()  # a page that is sent at this moment would lack parts
        expect(page.locator("[data-points]").first).to_be_visible()
        server.kill()
        expect(page.get_by_text("The server does not answer")).to_be_visible(timeout=MINUTE_MS)
        assert runs.get_run(server.checkpoints, run.id).state.active
        before = point_count(page)
        server.start()
        wait_for_more_points(page, before)
        expect(review_button).to_be_visible(timeout=MINUTE_MS)
        review = page.context.new_page()  # from the first checkpoint on, before the run ends where pages are fast
        review.goto(f"{server.url}/review?model={run.id}")
        scored = review.get_by_text(re.compile(r"mean Dice [01]\.\d+, whole volumes, n = \d"))
        to_segment = review.get_by_role("button", name="Segment this case")
        expect(to_segment.or_(scored).first).to_be_visible(timeout=MINUTE_MS)
        expect(badge.filter(has_text=re.compile("finished")).first).to_be_visible(timeout=4 * MINUTE_MS)
        assert page.evaluate("window.sameDocument") is True
        finished = runs.get_run(server.checkpoints, run.id)
        assert finished.state.state == "finished" and finished.state.best is not None
        assert (finished.folder / "last.safetensors").is_file() and (finished.folder / "best.safetensors").is_file()
        expect(page.get_by_role("row").filter(has_text="first light")).to_contain_text("finished")
        expect(scored).to_be_visible()
        expect(review.get_by_role("button", name=re.compile("^Segment"))).to_have_count(0)  # nothing is left to segment
        review_button.click()
        expect(page).to_have_url(re.compile(rf"/review\?.*model={run.id}"))
        assert "Stack (most recent call last)" not in server.log(), "a terminal without warnings of Streamlit"
    finally:
        server.stop()
        for run in runs.list_runs(server.checkpoints):
            if run.state.active:
                runs.request_stop(server.checkpoints, run.id, now=True)


def fill(page: Page, label: str, value: str) -> None:
    """Type into a field and leave it."""
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Enter")
