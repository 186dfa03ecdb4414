"""A page in a real browser whose server sends late: what was not sent yet when a fragment of the page runs again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.runs.store.process import process_identity
from core.runs.store.state import read_state, write_state
from tests.browser.conftest import Server
from tests.support.run_folders import make_run
from tests.support.viewers import COMPLETE
from tests.support.watching import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.long]
# While a file exists, messages stay in the queue of their session. Another one gets a line for each run that begins.
HOLD = """
import os, pathlib
from streamlit.runtime.app_session import AppSession
held, begun = (pathlib.Path(os.environ[name]) for name in ("HELD", "BEGUN"))
flush, handle = AppSession.flush_browser_queue, AppSession._clear_queue
AppSession.flush_browser_queue = lambda session: [] if held.exists() else flush(session)
def note(session, fragments=None):
    with begun.open("a") as file:
        file.write(("fragment" if fragments else "page") + chr(10))
    handle(session, fragments)
AppSession._clear_queue = note
"""


@pytest.fixture
def late_server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, demo_model=False, before=HOLD, HELD=str(tmp_path / "held"), BEGUN=str(tmp_path / "begun"))
    yield server
    server.stop()


def test_page_stays_whole_when_its_fragments_run_again_before_it_is_sent(late_server: Server, page: Page) -> None:
    """A run ends: the page runs again, and the browser, which does not have it yet, still asks for its fragments."""
    held, begun = late_server.folder / "held", late_server.folder / "begun"
    run = make_run(late_server.checkpoints, "forming", "running", epochs=3)
    folder, pid = late_server.checkpoints / run, os.getpid()
    write_state(folder, replace(read_state(folder), pid=pid, pid_start=process_identity(pid)))  # its trainer is alive
    page.goto(f"{late_server.url}/runs?run={run}")
    expect(page.get_by_role("heading", name="forming")).to_be_visible()
    expect(page.get_by_text("Time left")).to_be_visible()
    page.wait_for_selector(COMPLETE)

    held.touch()
    begun.unlink()
    write_state(folder, replace(read_state(folder), state="finished"))

    def fragments_after_the_page() -> int:
        page.wait_for_timeout(50)
        runs = begun.read_text().split() if begun.exists() else []
        return runs[runs.index("page") :].count("fragment") if "page" in runs else 0

    wait_until(lambda: fragments_after_the_page() >= 3)
    sent_at = fragments_after_the_page()
    held.unlink()
    wait_until(lambda: fragments_after_the_page() >= sent_at + 3)  # those that the page asks for, as it is now
    page.wait_for_selector(COMPLETE)
    expect(page.get_by_text("Time left")).to_have_count(0)
    for place in (
        page.get_by_role("row").filter(has_text="forming"),
        page.get_by_role("heading", name="forming"),
        page.get_by_role("button", name="Rename"),
        page.get_by_role("img", name="Dice per class and loss of this run"),
        page.get_by_role("tab", name="Configuration"),
    ):
        expect(place).to_have_count(1)
