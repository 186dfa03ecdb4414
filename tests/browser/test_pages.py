"""Every page in a real browser: deep links, narrow and wide, light and dark, no requests to other hosts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server, hippocampus_folder
from tests.support.run_folders import add_metrics, make_run

pytestmark = pytest.mark.browser
TITLES = {
    "": "Segmentarium",
    "learn": "Learn",
    "data": "Data",
    "train": "Train",
    "runs": "Runs",
    "review": "Review",
    "predict": "Predict",
    "quiz": "Quiz",
}
FOOTER = "For research and teaching, not a medical device."


@pytest.mark.long(15)
def test_pages_do_not_scroll_sideways_and_load_nothing_from_other_hosts(server: Server, browser: Browser) -> None:
    """Opened narrow, and then made wide."""
    run = make_run(server.checkpoints, "a name that is rather long, as names of runs sometimes are when people write")
    context = browser.new_context(viewport={"width": 800, "height": 900}, color_scheme="dark")
    page, requested = context.new_page(), []
    page.on("request", lambda request: requested.append(request.url))
    page.on("websocket", lambda socket: requested.append(socket.url))
    for path in (*TITLES, f"runs?run={run}", "runs?run=nothing"):
        page.goto(f"{server.url}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text(FOOTER)).to_be_visible()  # the last element
        inner = "[...document.querySelectorAll('[data-testid=stMain], html')].map(e => e.scrollWidth - e.clientWidth)"
        assert max(page.evaluate(inner)) <= 0, path
        page.set_viewport_size({"width": 1440, "height": 900})
        page.wait_for_function(f"Math.max(...{inner}) <= 0")
        page.set_viewport_size({"width": 800, "height": 900})
    outside = [u for u in requested if urlsplit(u).scheme not in ("data", "blob") and urlsplit(u).port != server.port]
    assert outside == [] and len(requested) > 20
    context.close()


@pytest.mark.long
def test_chart_gains_points_without_reload_and_keeps_its_zoom(server: Server, page: Page) -> None:
    run = make_run(server.checkpoints, "live", "running", epochs=10)
    page.goto(f"{server.url}/runs?run={run}")
    page.evaluate("window.sameDocument = true")
    chart = page.locator("[data-points]").first
    expect(chart).to_have_attribute("data-points", "60")
    canvas = page.get_by_role("img", name="Dice per class and loss of this run")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 120, steps=5)
    page.mouse.up()
    zoom = chart.get_attribute("data-zoom")
    assert zoom
    add_metrics(server.checkpoints, run, 11, 14)
    expect(chart).to_have_attribute("data-points", "84", timeout=15_000)
    assert chart.get_attribute("data-zoom") == zoom
    assert page.evaluate("window.sameDocument") is True
    page.mouse.move(box["x"] + 500, box["y"] + 120)
    tip = page.locator(".tip")
    expect(tip).to_contain_text("CSF")
    for name in ("GM", "WM", "mean", "training loss", "validation loss"):
        expect(tip).to_contain_text(name)
    page.mouse.dblclick(box["x"] + 500, box["y"] + 120)
    expect(chart).to_have_attribute("data-zoom", "")
    page.mouse.wheel(0, -300)  # without Ctrl the page scrolls
    expect(chart).to_have_attribute("data-zoom", "")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    expect(chart).not_to_have_attribute("data-zoom", "")
    page.get_by_role("button", name="time", exact=True).click()
    expect(chart).to_have_attribute("data-zoom", "")
    page.get_by_text("Values as a table").click()
    expect(page.get_by_role("cell", name="0.500").first).to_be_visible()


def test_chart_shows_the_loss_before_the_first_validation(server: Server, page: Page) -> None:
    from core.runs import MetricRow
    from core.runs.store.index import open_index

    run = make_run(server.checkpoints, "first epoch", "running", epochs=0)
    rows = [MetricRow(0, 1, step, step * 1.0, "train/loss", 1 / step) for step in (5, 10)]
    open_index(server.checkpoints).add_metrics(run, rows)
    page.goto(f"{server.url}/runs?run={run}")
    chart = page.locator("[data-points]").first
    expect(chart).to_have_attribute("data-points", "2")
    canvas = page.get_by_role("img", name="Dice per class and loss of this run")
    canvas.hover(position={"x": 1200, "y": 300})
    expect(page.locator(".tip")).to_contain_text("0.100")  # the right edge is step 10, not all of epoch 1 at one place
    canvas.hover(position={"x": 100, "y": 300})
    expect(page.locator(".tip")).to_contain_text("0.200")


@pytest.mark.slow
def test_home_has_the_text_of_each_page_beside_its_name(quiz_server: Server, page: Page) -> None:
    page.goto(quiz_server.url)
    texts = page.get_by_test_id("stMain").get_by_test_id("stCaptionContainer")
    for width in (1440, 1280, 1000, 800):
        page.set_viewport_size({"width": width, "height": 900})
        for name, text in (("Learn", "T1 and T2"), ("Review", "Each case slice by slice")):
            link = page.get_by_test_id("stMain").get_by_test_id("stPageLink").filter(has_text=name).last.bounding_box()
            beside = texts.filter(has_text=text).bounding_box()
            assert link and beside, name
            middle = link["y"] + link["height"] / 2
            assert beside["y"] <= middle <= beside["y"] + beside["height"], f"{name} at {width} px"
            assert beside["x"] >= link["x"] + link["width"], f"{name} at {width} px"


def test_empty_chart_gives_the_reason(server: Server, page: Page) -> None:
    run = make_run(server.checkpoints, "young", "stopped", epochs=0)
    page.goto(f"{server.url}/runs?run={run}")
    expect(page.get_by_text("No values: the run ended before the first measurement.")).to_be_visible()


def test_names_and_messages_are_escaped(server: Server, page: Page) -> None:
    bad = "<img src=x onerror=alert(1)> **b** [l](javascript:1)"
    run = make_run(server.checkpoints, bad, "failed", message=bad)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    for path in (f"runs?run={run}", ""):
        page.goto(f"{server.url}/{path}")
        expect(page.get_by_text(bad).first).to_be_visible()
        expect(page.locator("img[src=x]")).to_have_count(0)


@pytest.mark.long
def test_run_chosen_in_the_table_is_shown_and_kept_on_reload(server: Server, page: Page) -> None:
    first, second = make_run(server.checkpoints, "first one"), make_run(server.checkpoints, "second one")
    page.goto(f"{server.url}/runs?run={second}")
    expect(page.get_by_role("heading", name="second one")).to_be_visible()
    page.get_by_role("row").filter(has_text="first one").click()
    expect(page.get_by_role("heading", name="first one")).to_be_visible()
    assert first in page.url
    page.reload()
    expect(page.get_by_role("heading", name="first one")).to_be_visible()


def test_run_started_elsewhere_appears_without_reload(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/runs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    make_run(server.checkpoints, "started in a terminal")
    expect(page.get_by_role("row").filter(has_text="started in a terminal")).to_be_visible(timeout=15_000)


@pytest.mark.long
def test_data_page_checks_a_folder_and_leads_to_train(server: Server, page: Page, test_data: Path) -> None:
    hippocampus_folder(server, test_data)
    (server.data / "nothing").mkdir()
    page.goto(f"{server.url}/data?data=hippo")
    expect(page.get_by_text("Ready for training")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("Anterior", exact=True).first).to_be_visible()
    expect(page.get_by_role("img", name="Middle slice of hippocampus_001")).to_be_visible()
    page.get_by_text("Subjects", exact=True).click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    page.get_by_role("button", name="Train on this").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Train")
    assert "data=hippo" in page.url
    expect(page.get_by_text("64 for training, 16 for validation")).to_be_visible()


def complete_demo_subjects(folder: Path, count: int) -> None:
    """Subjects 1 to ``count`` of unfinished demo data as variants of subject-1; the others are removed."""
    for file in [*folder.glob("subject-*"), *folder.glob("segmentarium-demo.json")]:
        if not file.name.startswith("subject-1-"):
            file.unlink()
    for number in range(2, count + 1):
        for file in folder.glob("subject-1-*"):
            target = folder / file.name.replace("subject-1-", f"subject-{number}-")
            if "label" in file.name:
                target.hardlink_to(file)
            else:  # no duplicate of subject-1
                image: Any = nib.load(file)
                voxels = np.asarray(image.dataobj)
                changed = (voxels + number * (voxels > 0)).astype(np.int16)
                nib.save(nib.Nifti1Image(changed, image.affine, image.header), target)  # type: ignore[attr-defined]


@pytest.mark.long(30)
@pytest.mark.slow
def test_demo_data_and_data_doctor_show_progress(server: Server, page: Page) -> None:
    """Subject-1 and copies of it are there already."""
    complete_demo_subjects(server.data / "demo", 9)
    page.goto(f"{server.url}/data?data=demo")
    page.get_by_role("button", name="Make the demo data").click()
    expect(page.get_by_text(re.compile("Making synthetic subjects: [0-9] of 10"))).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Checking the data: ")).to_be_visible(timeout=180_000)
    expect(page.get_by_text("Ready for training")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("synthetic", exact=True)).to_be_visible()
    page.get_by_role("button", name="Import options").click()
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_text("Checking the data: ")).to_be_visible()
    expect(page.get_by_text("Ready for training")).to_be_visible(timeout=120_000)


def test_every_page_opens_by_its_url_and_the_server_does_not_load_torch(server: Server, page: Page) -> None:
    for path, title in TITLES.items():
        page.goto(f"{server.url}/{path}")
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page.get_by_text(FOOTER)).to_have_count(1)
        expect(page.get_by_role("dialog")).to_have_count(0)
        for other in ("Home", *list(TITLES.values())[1:]):
            expect(page.get_by_test_id("stTopNavLink").filter(has_text=other)).to_be_visible()
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc to look into the server's process")
    loaded = maps.read_text()
    assert "numpy" in loaded and "torch" not in loaded


@pytest.mark.long
def test_server_on_all_interfaces_requires_the_token(tmp_path: Path, page: Page) -> None:
    server = Server(tmp_path, "--server.address", "0.0.0.0", demo_model=False, SEGMENTARIUM_TOKEN="open sesame")
    try:
        assert "/?token=open sesame" in server.log()
        page.goto(f"{server.url}/runs?run=abc")
        expect(page.get_by_text("requires its owner token")).to_be_visible()
        for route in ("/api/volumes/" + 32 * "0", "/api/runs/abc/metrics"):
            assert page.request.get(server.url + route).status == 401, route
        page.get_by_label("Owner token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_have_text("That is not the token of this server.")
        page.get_by_label("Owner token").fill("open sesame")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
        assert "token" not in page.url and "run=abc" in page.url
    finally:
        server.stop()
