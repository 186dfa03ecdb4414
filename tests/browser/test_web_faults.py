"""Faults of the web server and of tabs while a run trains: the run is not affected.

A killed server is tested in test_first_light.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from core import runs
from core.processes import kill_tree
from core.runs.store.process import process_identity
from tests.browser.conftest import Server
from tests.support.balls import write_balls
from tests.support.run_chart import wait_for_more_points
from tests.support.train_page import press_start
from tests.support.watching import processes_of, wait_for_step, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals"),
]
MINUTE_MS = 60_000
SMALL = "threads~1~batch_size~1~sub_volume~16,16,16"  # epochs of a moment, on one core: the pages need the other


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with tiny data; its processes are ended after the tests."""
    folder = tmp_path_factory.mktemp("faults-server")
    write_balls(folder / "data" / "balls")
    server = Server(folder, demo_model=False)
    yield server
    server.stop()
    for process in processes_of(server.checkpoints):
        kill_tree(process.pid)


@pytest.mark.long(40)
@pytest.mark.fault(5, "Ctrl-C to the web server while a run trains: the run is untouched, the next server shows it")
def test_ctrl_c_ends_only_the_server(own_server: Server, page: Page) -> None:
    run_id = start(own_server, page, "interrupted")
    root, group = own_server.checkpoints, own_server.process.pid
    before = wait_for_step(root, run_id, 2)
    family = {process.pid for process in processes_of(root / run_id)}
    assert {before.pid, before.shim_pid} <= family
    wait_for_more_points(page, 0)
    own_server.interrupt()
    expect(page.get_by_text("The server does not answer")).to_be_visible(timeout=MINUTE_MS)
    assert [p.pid for p in psutil.process_iter() if group_of(p.pid) == group] == [], "processes left by the server"
    after = wait_for_step(root, run_id, runs.get_run(root, run_id).state.step + 4)
    assert (after.pid, after.pid_start, after.attempt) == (before.pid, process_identity(before.pid or 0), 1)
    assert {process.pid for process in processes_of(root / run_id)} == family
    own_server.start()
    page.goto(f"{own_server.url}/runs")
    expect(badge(page, "running")).to_be_visible(timeout=MINUTE_MS)
    assert shown_run(page) == run_id
    seen = epoch(page)
    wait_until(lambda: epoch(page) > seen)
    stop(page)
    expect(badge(page, "stopped")).to_be_visible(timeout=MINUTE_MS)
    wait_until(lambda: not processes_of(root / run_id))
    assert runs.get_run(root, run_id).state.attempt == 1


@pytest.mark.long(40)
@pytest.mark.fault(6, "tab closed while a run trains, two opened: both show the same, also when one of them stops it")
def test_run_survives_a_closed_tab_and_two_tabs_show_the_same(own_server: Server, context: BrowserContext) -> None:
    first = context.new_page()
    run_id = start(own_server, first, "two tabs")
    root = own_server.checkpoints
    before = wait_for_step(root, run_id, 2)
    first.close()
    wait_for_step(root, run_id, runs.get_run(root, run_id).state.step + 4)
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(f"{own_server.url}/runs")
        expect(badge(tab, "running")).to_be_visible(timeout=MINUTE_MS)
        assert shown_run(tab) == run_id
        tab.evaluate("window.sameDocument = true")
    seen = max(epoch(tab) for tab in tabs)
    assert seen <= runs.get_run(root, run_id).state.epoch, "tabs show at most the stored epoch"
    wait_until(lambda: min(epoch(tab) for tab in tabs) > seen + 1)
    stop(tabs[0])
    for tab in tabs:
        expect(badge(tab, "stopped")).to_be_visible(timeout=MINUTE_MS)
        expect(tab.get_by_role("row").filter(has_text="two tabs")).to_contain_text("stopped")
        expect(tab.get_by_role("button", name="Resume")).to_be_visible()
    done = runs.get_run(root, run_id).state
    assert (done.state, done.attempt, done.pid) == ("stopped", 1, before.pid)
    assert [epoch(tab) for tab in tabs] == [done.epoch, done.epoch]
    assert all(tab.evaluate("window.sameDocument") for tab in tabs)


def start(server: Server, page: Page, name: str) -> str:
    """Start a run from the Train page, as a descendant of the server; returns its id."""
    page.goto(f"{server.url}/train?data=balls&preset=quick&set={SMALL}")
    for label, value in (
        ("Time budget (minutes)", "30"),
        ("Sub-volumes per epoch", "4"),
        ("Name of the run", name),
    ):
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_label(label, exact=True).press("Enter")
    expect(page.get_by_text("--name ")).to_be_visible()
    press_start(page)
    expect(page.get_by_role("heading", name=name)).to_be_visible(timeout=MINUTE_MS)
    (run,) = (run for run in runs.list_runs(server.checkpoints) if run.name == name)
    return run.id


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name="Stop this run").click()


def badge(page: Page, state: str) -> Locator:
    return page.get_by_test_id("stBadge").or_(page.locator(".stMarkdownBadge")).filter(has_text=re.compile(state)).first


def shown_run(page: Page) -> str | None:
    """The id of the chosen run."""
    return page.locator("[data-run][aria-selected=true]").get_attribute("data-run")


def epoch(page: Page) -> int:
    """The epoch that the page shows; 0 while it shows none."""
    metric = page.get_by_test_id("stMetric").filter(has_text=re.compile("^Epoch")).get_by_test_id("stMetricValue")
    found = re.match(r"\d+", metric.inner_text().strip())
    return int(found[0]) if found else 0


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
