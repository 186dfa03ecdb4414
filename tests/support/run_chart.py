"""Looks at the chart of a run on a page."""

from __future__ import annotations

from playwright.sync_api import Page


def points(page: Page) -> int:
    return int(page.locator("[data-points]").first.get_attribute("data-points") or 0)


def wait_for_more_points(page: Page, than: int) -> None:
    page.wait_for_function(
        """than => {
            const find = (root) => root.querySelector('[data-points]')
                ?? [...root.querySelectorAll('*')].map(e => e.shadowRoot && find(e.shadowRoot)).find(Boolean);
            return Number(find(document)?.dataset.points) > than;
        }""",
        arg=than,
        timeout=180_000,
    )
