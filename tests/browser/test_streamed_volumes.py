"""Large volumes in the viewer: progress, slabs of slices on demand, the same picture as that of a whole volume."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from core.checkpointing.metadata import read_metadata
from core.cli import main
from tests.browser.conftest import MADE_MS, Server
from tests.support.kept_epochs import keep_epochs
from tests.support.quiz_runs import QuizRun
from tests.support.viewers import coloured_pixels, pane, settle, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]
# ``streamlit`` in a process to which every volume is large, and which has no ready-made model.
ALL_ARE_LARGE = """
import pathlib, core.paths, ui.viewer.streamed_scenes
core.paths.demo_model_path = lambda: pathlib.Path("/nonexistent/model.safetensors")
ui.viewer.streamed_scenes.WHOLE_VOXELS = 0
from streamlit.web.cli import main
main(prog_name="streamlit")
"""

GREY = """canvas => {
    const copy = document.createElement('canvas');
    copy.width = canvas.width; copy.height = canvas.height;
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    const d = context.getImageData(0, 0, copy.width, copy.height).data;
    let grey = 0;
    for (let p = 0; p < d.length; p += 4) {
        const high = Math.max(d[p], d[p + 1], d[p + 2]), low = Math.min(d[p], d[p + 1], d[p + 2]);
        if (high >= 30 && high - low <= 6) grey++;
    }
    return grey;
}"""


class StreamingServer(Server):
    """A server that streams all volumes."""

    def start(self) -> None:
        self.launcher = ["-c", ALL_ARE_LARGE]
        super().start()


@pytest.fixture
def streaming_server(quiz_run: QuizRun, tmp_path: Path) -> Iterator[Server]:
    shutil.copytree(quiz_run.root, tmp_path / "checkpoints")
    started = StreamingServer(tmp_path, SEGMENTARIUM_DATA=str(quiz_run.data_root))
    yield started
    started.stop()


def wait_for_slices(page: Page) -> None:
    wait_until_ready(page)
    expect(page.locator("canvas.pane[data-waiting=true]")).to_have_count(0)
    settle(page)


@pytest.mark.long
def test_large_volume_shows_progress_then_slices_as_they_are_looked_at(
    streaming_server: Server, quiz_server: Server, page: Page
) -> None:
    asked: list[str] = []
    prepared: list[bool] = []
    page.on("request", lambda request: asked.append(request.url))

    def while_prepared(route: Route) -> None:
        if prepared:
            route.continue_()
        else:
            route.fulfill(content_type="application/json", body=json.dumps({"progress": 0.42}))

    page.route("**/api/streams/*", while_prepared)
    page.goto(f"{streaming_server.url}/review")
    expect(page.get_by_text("Reading the volume: 42 %")).to_be_visible()
    prepared.append(True)
    wait_for_slices(page)
    assert not any("api/volumes/" in url for url in asked), "nothing is fetched whole"
    shown = {row: coloured_pixels(pane(page, "axial", row)) for row in ("truth", "prediction", "errors")}
    readout = page.locator(".readout").inner_text()
    assert shown["truth"] > 0 and "…" not in readout
    at = pane(page, "axial", "truth").slice
    page.locator("canvas.pane").first.focus()
    page.keyboard.press("End")
    wait_for_slices(page)
    assert pane(page, "axial", "truth").slice > at
    assert not any("slab=0,1," in url for url in asked), "no coronal slice was looked at"
    page.get_by_role("button", name="coronal").click()
    wait_for_slices(page)
    assert pane(page, "coronal", "truth").letters == "RLSI"
    page.goto(f"{quiz_server.url}/review")  # the same run, with whole volumes
    wait_until_ready(page)
    assert pane(page, "axial", "truth").slice == at
    assert shown == {row: coloured_pixels(pane(page, "axial", row)) for row in shown}


@pytest.mark.long
def test_kept_epochs_and_surfaces_of_a_large_volume(
    streaming_server: Server, quiz_run: QuizRun, webgl_page: Page
) -> None:
    folder = streaming_server.checkpoints / quiz_run.run
    keep_epochs(folder)
    subject = next(iter(read_metadata(folder / "best.safetensors").split["val"]))
    options = [f"--data={quiz_run.data}", f"--checkpoints={streaming_server.checkpoints}"]
    assert main(["review", "epochs", quiz_run.run, subject, *options]) == 0
    page = webgl_page
    page.goto(f"{streaming_server.url}/review?model={quiz_run.run}&case={subject}")
    wait_for_slices(page)
    page.locator("canvas.pane").first.focus()
    page.keyboard.press(".")  # the last one, which is shown at first: that of the prediction
    shown, prediction = pane(page, "axial", "epoch"), pane(page, "axial", "prediction")
    page.keyboard.press("x")  # the crosshair is coloured
    wait_for_slices(page)
    assert coloured_pixels(shown) == coloured_pixels(prediction) > 100
    for name in ("epoch 3", "epoch 1"):
        page.keyboard.press(",")
        expect(shown.canvas).to_have_attribute("aria-label", re.compile(name))
    wait_for_slices(page)
    assert coloured_pixels(shown) == 0, "the first network says nothing"
    expect(page.locator(".readout")).to_contain_text("epoch 1background")
    page.keyboard.press("3")
    surfaces = page.locator(".surfaces")
    expect(surfaces).to_have_attribute("data-state", "done", timeout=MADE_MS)
    page.locator("canvas.surface").focus()
    page.keyboard.press("5")  # from above, where the axial slice is seen
    page.keyboard.press("c")
    settle(page)
    without = grey_pixels(page)
    page.keyboard.press("i")
    settle(page)
    assert grey_pixels(page) > without + 1000, "the slice of the image"


def grey_pixels(page: Page) -> int:
    """Number of pixels of the surfaces that are grey and not black."""
    return int(page.locator("canvas.surface").evaluate(GREY))


@pytest.mark.long
def test_image_that_cannot_be_read_says_why(streaming_server: Server, page: Page) -> None:
    error = json.dumps({"error": "ball.nii.gz: expected 100 bytes according to its header, got only 90"})
    page.route("**/api/streams/*", lambda route: route.fulfill(content_type="application/json", body=error))
    page.goto(f"{streaming_server.url}/review")
    expect(page.get_by_text("according to its header")).to_be_visible()
    page.unroute("**/api/streams/*")
    page.get_by_role("button", name="Try again").click()
    wait_for_slices(page)
