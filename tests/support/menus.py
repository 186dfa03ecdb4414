"""Menus of the pages: select boxes and multiselects of Streamlit."""

from __future__ import annotations

import time

from playwright.sync_api import Locator, TimeoutError

TIMEOUT_S = 60.0
CLICK_MS = 5_000  # then the menu is opened again
SHOWN_S = 5.0


def choose_option(box: Locator, option: str, typed: str = "") -> None:
    """Choose from a select box or multiselect, and wait until it shows the choice.

    A menu closes when the page scrolls, also by itself: because a part of it opens or gets longer. It is opened again
    then, as a user would.

    Parameters
    ----------
    box : Locator. The combobox.
    option : str. Text of the option.
    typed : str. Text that is typed to filter the options.

    Raises
    ------
    AssertionError
        If the option could not be chosen within a minute.
    """
    offered = box.page.get_by_role("option", name=option, exact=True)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if not offered.is_visible():
            box.click()
            if typed:
                box.fill(typed)
        try:
            offered.click(timeout=CLICK_MS)
        except TimeoutError:
            continue
        if _shows(box, option):
            return
    raise AssertionError(f"{option!r} was not chosen within {TIMEOUT_S:g} s")


def _shows(box: Locator, option: str) -> bool:
    """Whether a select box has the option as its value, or a multiselect as one of its tags, soon."""
    widget = box.locator("xpath=ancestor::*[@data-testid='stSelectbox' or @data-testid='stMultiSelect'][1]")
    end = time.monotonic() + SHOWN_S
    while time.monotonic() < end:
        if box.input_value() == option or option in widget.inner_text():
            return True
        box.page.wait_for_timeout(50)
    return False
