"""The Train page."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.viewers import COMPLETE

COMPLETE_MS = 120_000  # a new data set is looked through first


def press_start(page: Page, name: str = "Start training") -> None:
    """Click a button once the plan above it is complete: lines added to the plan move the button."""
    button = page.get_by_role("button", name=name)
    expect(button).to_be_enabled(timeout=COMPLETE_MS)
    expect(page.get_by_text("estimating …")).to_have_count(0, timeout=COMPLETE_MS)
    expect(page.locator(COMPLETE)).to_be_attached(timeout=COMPLETE_MS)
    button.click()
