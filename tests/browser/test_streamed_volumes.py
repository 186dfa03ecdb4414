"""Large volumes in the viewer: progress, slabs of slices on demand, the same picture as that of a whole volume."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.datasets import open_dataset
from core.evaluation.metrics import dice_per_class
from tests.browser.conftest import MADE_MS, Server
from tests.support.balls import SPACING_MM
from tests.support.kept_epochs import keep_epochs
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, hand_made_case, mistakes
from tests.support.viewers import coloured_pixels, pane, settle, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]
# ``streamlit`` in a process to which every volume is large, and which has no ready-made model.
ALL_ARE_LARGE = """
import pathlib, core.paths, ui.viewer.streamed_scenes
core.paths.demo_model_path = lambda: pathlib.Path("/nonexistent/model.safetensors")
ui.viewer.streamed_scenes.WHOLE_VOXELS = 0
from streamlit.web.cli import main
main(prog_name="streamlit")
"""

PICTURE_PX = 76  # side of the picture of an error
PIXELS = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"

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


@pytest.fixture(scope="module")
def streaming_server(quiz_run: QuizRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streaming-server")
    shutil.copytree(quiz_run.root, folder / "checkpoints")
    started = StreamingServer(folder, SEGMENTARIUM_DATA=str(quiz_run.data_root))
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
    assert len({url for url in asked if "/api/volumes/" in url}) <= 1, "the list of errors; no volume is fetched whole"
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
def test_errors_of_a_large_volume_are_listed_counted_and_pictured_as_those_of_a_whole_one(
    streaming_server: Server, quiz_server: Server, quiz_run: QuizRun, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with hand_made_case(streaming_server, quiz_run, mistakes) as case:
        page.goto(case.url)
        wait_for_slices(page)
        streamed, streamed_pictures = shown_of_errors(page), pictures_of_errors(page)
        for number in range(3):
            page.keyboard.press("e")
            expect(page.locator(".findings")).to_have_attribute("data-selected", str(number))
            at = voxel(page)
            assert case.truth[at] != case.prediction[at]
        page.keyboard.press("Shift+E")
        expect(page.locator(".findings")).to_have_attribute("data-selected", "1")
        for axis, plane in enumerate(("sagittal", "coronal", "axial")):
            chart = page.get_by_role("slider", name=f"Dice per {plane} slice")
            chart.focus()
            for key, n in (("Home", 0), ("PageUp", 10), ("ArrowRight", 11), ("End", case.truth.shape[axis] - 1)):
                page.keyboard.press(key)
                expect(chart).to_have_attribute("aria-valuetext", re.compile(f", Dice {dice_of_slice(case, axis, n)}$"))
        page.get_by_role("group", name="Classes", exact=True).get_by_role("button", name="dark").click()
        page.get_by_role("slider", name="Dice per axial slice").focus()
        page.keyboard.press("Home")
        page.keyboard.press("PageUp")
        only = f", Dice {dice_of_slice(case, 2, 10, (1,))}$"
        expect(page.get_by_role("slider", name="Dice per axial slice")).to_have_attribute(
            "aria-valuetext", re.compile(only)
        )
    assert len({url for url in asked if "/api/volumes/" in url}) == 1, "the list of errors; no volume is fetched whole"
    with hand_made_case(quiz_server, quiz_run, mistakes) as case:
        page.goto(case.url)
        wait_for_slices(page)
        assert shown_of_errors(page) == streamed
        for picture, other in zip(pictures_of_errors(page), streamed_pictures, strict=True):
            assert other.std() > 20 and np.abs(picture - other).mean() < 4, "but for the rounding of the greys"


@pytest.mark.long
def test_second_prediction_of_a_large_volume_is_a_layer(
    streaming_server: Server, quiz_run: QuizRun, page: Page
) -> None:
    dataset = open_dataset(quiz_run.data)
    with hand_made_case(streaming_server, quiz_run, mistakes) as case:
        subject = case.url.rpartition("=")[2]
        label = dataset.subject(subject).label
        assert label is not None
        file = label.relative_to(quiz_run.data_root)
        wrong = case.first(1, 2)
        page.goto(f"{case.url}&with=file&file={file}&at={','.join(str(n + 1) for n in wrong)}")
        wait_for_slices(page)
        shown = coloured_pixels(pane(page, "axial", "second prediction"))
        assert shown == coloured_pixels(pane(page, "axial", "truth")) > 0
        page.get_by_role("button", name="who is right").click()
        wait_for_slices(page)
        expect(page.locator(".readout")).to_contain_text("who is rightonly the second is right")
        voxels = int((case.truth != case.prediction).sum())
        expect(page.get_by_role("group", name="Who is right")).to_contain_text(
            re.compile(rf"only the second is right{millilitres(voxels)}.*both are wrong0 ml")
        )


def shown_of_errors(page: Page) -> dict[str, list[str]]:
    """What the viewer says about the errors: list, volumes of kinds and pairs, Dice of the slices at the crosshair."""
    expect(page.locator(".findings .card").first).to_be_visible(timeout=MADE_MS)
    expect(page.locator(".strip canvas")).to_have_count(3)
    settle(page)
    return {
        "cards": [str(card.get_attribute("aria-label")) for card in page.locator(".findings .card").all()],
        "kinds": page.get_by_role("group", name="Errors", exact=True).get_by_role("button").all_inner_texts(),
        "pairs": page.locator(".errors-bar .list button").all_text_contents(),
        "dice": [str(chart.get_attribute("aria-valuetext")) for chart in page.locator(".strip canvas").all()],
    }


def pictures_of_errors(page: Page) -> list[np.ndarray]:
    """Red, green, blue and alpha of the pixels of the pictures in the list of errors."""
    pictures = page.locator(".findings .card canvas").all()
    for picture in pictures:
        expect(picture).to_have_js_property("width", PICTURE_PX)
    return [np.array(picture.evaluate(PIXELS), float) for picture in pictures]


def millilitres(voxels: int) -> str:
    """A volume as the viewer shows it, three significant digits from 1 ml on, else two."""
    volume = voxels * float(np.prod(SPACING_MM)) / 1000
    return f"{volume:.{3 if volume >= 1 else 2}g} ml"


def dice_of_slice(case: Case, axis: int, slice: int, classes: tuple[int, ...] = (1, 2)) -> str:
    """Mean Dice of a slice as the viewer shows it."""
    truth, prediction = case.truth.take(slice, axis), case.prediction.take(slice, axis)
    found = dice_per_class(truth, prediction, 3)[list(classes)]
    if np.isnan(found).all():
        return "no label"
    mean = float(np.nanmean(found))
    return f"{mean:.5f}" if 0 < mean < 0.001 else f"{mean:.3f}"


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


@pytest.mark.long
def test_kept_epochs_and_surfaces_of_a_large_volume(
    streaming_server: Server, quiz_run: QuizRun, webgl_page: Page
) -> None:
    folder = streaming_server.checkpoints / quiz_run.run
    keep_epochs(folder)  # the tests above know of none
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
