"""The Runs page in a real browser: pictures of validations, runs in one chart, sorting, files, notifications."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from core.runs import MetricRow, get_run
from core.runs.store.groups import FOLDS, Group, Member, write_group
from core.runs.store.index import open_index
from core.runs.store.pictures import add_picture, encode_png
from core.runs.store.process import process_identity
from core.runs.store.state import read_state, write_state
from tests.browser.conftest import Server
from tests.support.held_connection import HeldConnection
from tests.support.run_folders import add_metrics, make_run
from tests.support.viewers import COMPLETE

pytestmark = pytest.mark.browser
POLL_TIMEOUT_MS = 20_000
MIDDLE_PIXEL = "c => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]"
RECORD_NOTIFICATIONS = """
    window.shown = [];
    window.Notification = class {
        static permission = "default";
        static async requestPermission() { Notification.permission = "granted"; }
        constructor(title, options) { shown.push([title, options.body]); }
    };
"""


def add_slice(server: Server, run: str, epoch: int) -> None:
    """A picture with three panels: grey, red, and a blue as bright as the epoch."""
    rgb = np.full((8, 24, 3), 90, np.uint8)
    rgb[:, 8:] = (200, 0, 0)
    rgb[:, 16:] = (0, 0, 10 * epoch)
    add_picture(server.checkpoints / run, epoch, epoch * 20, encode_png(rgb))


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def colour(page: Page, panel: str) -> list[int]:
    """The colour of the middle pixel of a panel of the picture."""
    found: list[int] = page.locator(f"figure.{panel} canvas").evaluate(MIDDLE_PIXEL)
    return found[:3]


@pytest.mark.long
def test_pictures_of_validations_are_watched_with_a_slider(server: Server, page: Page) -> None:
    run = make_run(server.checkpoints, "forming", "running", epochs=3)
    folder, pid = server.checkpoints / run, os.getpid()
    write_state(folder, replace(read_state(folder), pid=pid, pid_start=process_identity(pid)))  # its trainer is alive
    page.goto(f"{server.url}/runs?run={run}")
    expect(page.get_by_text("The first picture appears with the first validation.")).to_be_visible()
    for epoch in (1, 2, 3):
        add_slice(server, run, epoch)
    pictures, slider = page.locator(".pictures"), page.get_by_role("slider", name="Epoch of the picture")
    expect(pictures).to_have_attribute("data-shown", "3", timeout=POLL_TIMEOUT_MS)
    assert colour(page, "reference") == [200, 0, 0] and colour(page, "prediction") == [0, 0, 30]
    slider.press("ArrowLeft")
    expect(pictures).to_have_attribute("data-shown", "2")
    expect(page.get_by_text("epoch 2 · step 40 · Dice 0.750")).to_be_visible()
    assert colour(page, "prediction") == [0, 0, 20]
    add_metrics(server.checkpoints, run, 4, 4)
    add_slice(server, run, 4)
    expect(slider).to_have_attribute("max", "3", timeout=POLL_TIMEOUT_MS)
    expect(pictures).to_have_attribute("data-shown", "2")  # a chosen picture stays
    slider.press("End")
    expect(pictures).to_have_attribute("data-shown", "4")
    add_slice(server, run, 5)
    expect(pictures).to_have_attribute("data-shown", "5", timeout=POLL_TIMEOUT_MS)  # the newest is followed
    page.get_by_role("button", name="Play the pictures of all validations").click()
    expect(pictures).to_have_attribute("data-shown", "1")
    expect(pictures).to_have_attribute("data-shown", "5")
    chart = page.get_by_role("img", name="Dice per class and loss of this run")
    chart.click(position={"x": 52, "y": 150})  # the left edge
    expect(pictures).to_have_attribute("data-shown", "1")
    write_state(folder, replace(read_state(folder), state="finished"))  # so that the queue goes on


@pytest.mark.long
def test_ticked_runs_lie_over_each_other_and_are_saved_as_files(server: Server, page: Page, tmp_path: Path) -> None:
    names = ("alpha <1>", "beta & co", "gamma 3")
    one, two, _ = (make_run(server.checkpoints, n, epochs=k, learning_rate=0.1 / k) for k, n in enumerate(names, 2))
    page.goto(f"{server.url}/runs?run={one}")
    chart = page.locator("[data-points]").first
    expect(chart).to_have_attribute("data-points", "12")
    row(page, names[1]).press("Space")
    expect(chart).to_have_attribute("data-runs", "2")
    expect(chart).to_have_attribute("data-points", "30")
    row(page, names[2]).get_by_role("checkbox").click()
    expect(chart).to_have_attribute("data-runs", "3")
    legend = page.locator(".legend")
    for name in names:
        expect(legend.get_by_role("button", name=name)).to_be_visible()
    page.get_by_role("combobox", name="Dice of").select_option("GM")
    page.get_by_role("button", name="log", exact=True).click()
    expect(page.get_by_text("Settings that differ")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    saved: dict[str, Path] = {}
    for kind in ("PNG", "SVG", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        download.value.save_as(saved.setdefault(kind, tmp_path / kind))
    assert np.asarray(Image.open(saved["PNG"])).std() > 0 and Image.open(saved["PNG"]).width == 2000
    texts = [e.text for e in ElementTree.parse(saved["SVG"]).iter() if e.tag.endswith("text")]
    assert {*names, "Dice of GM", "loss (log)", "epoch"} <= set(texts)
    assert len(saved["CSV"].read_text().splitlines()) == 1 + 6 * (2 + 3 + 4)
    page.reload()
    expect(chart).to_have_attribute("data-runs", "3")
    row(page, names[2]).press("Space")
    row(page, names[1]).click()
    expect(page.get_by_role("heading", name=names[1])).to_be_visible()
    expect(chart).to_have_attribute("data-runs", "2")
    row(page, names[0]).press("Space")
    expect(chart).to_have_attribute("data-runs", "1")
    assert "compare" not in page.url and two in page.url


@pytest.mark.long
def test_table_is_sorted_by_each_column_and_keeps_its_order(server: Server, page: Page) -> None:
    for name, epochs in (("sorted b", 2), ("sorted c", 4), ("sorted a", 0)):
        make_run(server.checkpoints, name, epochs=epochs)
    page.goto(f"{server.url}/runs")
    page.get_by_role("searchbox", name="Filter").fill("sorted")
    cells = page.locator("tbody td.name")
    expect(cells).to_have_text(["sorted a", "sorted c", "sorted b"])
    for heading, order in (
        ("Best Dice", ["sorted c", "sorted b", "sorted a"]),  # a run without the value is last
        ("Best Dice", ["sorted b", "sorted c", "sorted a"]),
        ("Best Dice", ["sorted a", "sorted c", "sorted b"]),  # as before
        ("Name", ["sorted a", "sorted b", "sorted c"]),
    ):
        page.get_by_role("button", name=heading, exact=True).click()
        expect(cells).to_have_text(order)
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    make_run(server.checkpoints, "sorted aa", epochs=1)
    expect(cells).to_have_text(["sorted a", "sorted aa", "sorted b", "sorted c"], timeout=POLL_TIMEOUT_MS)


def test_selected_run_is_in_sight_in_a_long_table_which_then_stays_where_it_is_scrolled(
    server: Server, page: Page
) -> None:
    oldest = make_run(server.checkpoints, "oldest of many")
    for n in range(12):
        make_run(server.checkpoints, f"newer {n}")
    page.goto(f"{server.url}/runs?run={oldest}")
    expect(row(page, "oldest of many")).to_be_in_viewport()
    frame = page.locator(".frame")
    frame.evaluate("f => { f.scrollTop = 0 }")
    make_run(server.checkpoints, "newest")
    expect(row(page, "newest")).to_be_in_viewport(timeout=POLL_TIMEOUT_MS)
    assert frame.evaluate("f => f.scrollTop") == 0, "new rows do not move the table"


@pytest.mark.long
def test_table_of_more_rows_than_are_rendered_at_once_becomes_complete(server: Server, page: Page) -> None:
    made = [make_run(server.checkpoints, f"row {n:03}", epochs=1) for n in range(130)]
    page.goto(f"{server.url}/runs?run={made[10]}")
    page.get_by_role("searchbox", name="Filter").fill("row")
    newest_first = [f"row {n:03}" for n in reversed(range(130))]
    cells = page.locator("tbody td.name")
    expect(cells).to_have_text(newest_first)
    expect(row(page, "row 010")).to_be_in_viewport()
    page.get_by_role("button", name="Name", exact=True).click()
    expect(cells).to_have_text(newest_first[::-1])
    page.get_by_role("searchbox", name="Filter").fill("row 099")
    expect(cells).to_have_text(["row 099"])
    page.get_by_role("searchbox", name="Filter").fill("row")
    expect(cells).to_have_text(newest_first[::-1])
    for id in made:
        shutil.rmtree(server.checkpoints / id)


@pytest.mark.long
def test_axis_is_time_until_there_are_epochs_and_small_values_are_not_zero(server: Server, page: Page) -> None:
    run = make_run(server.checkpoints, "first epochs", "running", epochs=0)
    rows = [MetricRow(0, 1, s, s * 1.0, n, v) for s in (5, 10) for n, v in (("train/loss", 1e-4), ("lr", 2e-8))]
    open_index(server.checkpoints).add_metrics(run, rows)
    page.goto(f"{server.url}/runs?run={run}")
    chart, canvas = page.locator("[data-points]").first, page.get_by_role("img", name="Dice per class and loss")
    expect(chart).to_have_attribute("data-axis", "time")
    canvas.hover(position={"x": 600, "y": 300})
    expect(page.locator(".tip")).to_contain_text("0.000100")
    page.get_by_role("combobox", name="Lower panel").select_option("learning rate")
    canvas.hover(position={"x": 610, "y": 300})
    expect(page.locator(".tip")).to_contain_text("2.00e-8")
    later = [MetricRow(0, epoch, 100 * epoch, 60.0 * epoch, "lr", 1e-3) for epoch in (1, 2, 3)]
    open_index(server.checkpoints).add_metrics(run, later)
    expect(chart).to_have_attribute("data-axis", "epochs", timeout=POLL_TIMEOUT_MS)


@pytest.mark.long
def test_browser_notifies_on_every_page_when_a_run_ends(server: Server, page: Page) -> None:
    page.add_init_script(RECORD_NOTIFICATIONS)
    page.goto(f"{server.url}/runs")
    page.get_by_role("button", name="Notify when runs end").click()
    expect(page.get_by_role("button", name="Notifies when runs end")).to_have_attribute("aria-pressed", "true")
    with page.expect_response(re.compile("/api/ended$"), timeout=POLL_TIMEOUT_MS):
        pass
    page.get_by_test_id("stTopNavLink").filter(has_text="Train").click()
    make_run(server.checkpoints, "done at last")
    page.wait_for_function("shown.length > 0", timeout=POLL_TIMEOUT_MS)
    ((title, text),) = page.evaluate("shown")
    assert title == "done at last" and text.startswith("finished after 12 s, mean Dice 0.875")


def test_click_counts_although_a_timer_sent_the_address_from_before_it(server: Server, page: Page) -> None:
    shown, clicked = (make_run(server.checkpoints, name) for name in ("shown at first", "clicked"))
    connection = HeldConnection(page)
    sent: list[str] = []

    def note_timer(message: str | bytes) -> None:
        """Note the address that a timer sends while the browser waits for the new one."""
        assert isinstance(message, bytes)
        request = BackMsg.FromString(message).rerun_script
        if request.is_auto_rerun and holds(f"run={clicked}".encode()):
            sent.append(request.query_string)

    def holds(content: bytes) -> bool:
        return any(content in message for message in connection.held or () if isinstance(message, bytes))

    def ended_runs() -> int:
        kinds = (ForwardMsg.FromString(m).WhichOneof("type") for m in connection.held or () if isinstance(m, bytes))
        return sum(kind == "script_finished" for kind in kinds)

    page.goto(f"{server.url}/runs?run={shown}")
    page.wait_for_selector(COMPLETE)
    connection.on_request = note_timer
    connection.hold()
    row(page, "clicked").click()
    while not sent:
        page.wait_for_timeout(20)
    ended = ended_runs()
    while ended_runs() < ended + 2:  # the run of the page, and the request of the timer
        page.wait_for_timeout(20)
    connection.release()
    assert sent[0] == f"run={shown}"
    expect(row(page, "clicked")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("heading", name="clicked")).to_be_visible()
    expect(page).to_have_url(re.compile(f"run={clicked}$"))


def test_group_is_one_row_that_opens_its_page_and_its_runs(server: Server, page: Page) -> None:
    made = [make_run(server.checkpoints, f"net fold {fold}", folds=3, fold=fold) for fold in range(3)]
    runs = [get_run(server.checkpoints, run) for run in made]
    members = tuple(Member(run.id, {"fold": fold}) for fold, run in enumerate(runs))
    write_group(server.checkpoints, Group("net-folds", "net", FOLDS, runs[0].config, members))
    page.goto(f"{server.url}/runs?run={make_run(server.checkpoints, 'other')}")
    line = page.get_by_role("row").filter(has_text="3 folds")
    expect(line).to_contain_text("3/3 runs")
    expect(line.get_by_role("checkbox")).to_have_count(0)  # a group has no curves of its own
    expect(row(page, "net fold 1")).to_have_count(0)
    line.click()
    expect(page).to_have_url(re.compile(r"group=net-folds"))
    expect(page.get_by_role("heading", name="net", exact=True)).to_be_visible()
    row(page, "net fold 1").click()
    expect(page).to_have_url(re.compile(f"run={made[1]}"))
    page.get_by_role("link", name="net", exact=True).click()
    expect(page.get_by_text("3 of 3 folds finished")).to_be_visible()
