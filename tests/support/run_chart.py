"""The chart of a run on a page."""

from __future__ import annotations

from playwright.sync_api import Page

TIMEOUT_MS = 180_000
_MORE_POINTS = """count => {
    const find = (root) => root.querySelector('[data-points]')
        ?? [...root.querySelectorAll('*')].map(e => e.shadowRoot && find(e.shadowRoot)).find(Boolean);
    return Number(find(document)?.dataset.points) > count;
}"""


def point_count(page: Page) -> int:
    """Number of points that the chart shows."""
    return int(page.locator("[data-points]").first.get_attribute("data-points") or 0)


def wait_for_more_points(page: Page, count: int) -> None:
    """Wait until the chart shows more than ``count`` points."""
    page.wait_for_function(_MORE_POINTS, arg=count, timeout=TIMEOUT_MS)
