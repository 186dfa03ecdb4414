"""Heat layers of the viewer in a real browser: colours, colour bar, values, and when they are fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from core.checkpointing.metadata import read_metadata
from core.datasets import load_subject, open_dataset
from core.evaluation.subject_prediction import SubjectPrediction
from core.runs.predictions import predictions_folder, read_predictions, save_prediction
from tests.browser.conftest import Server
from tests.support.balls import SHAPE, untrained_run, write_balls
from tests.support.viewers import coloured_pixels, open_menu, pane, settle, volume_requests, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.long]

LOW, HIGH = 40, 100  # percent, in the left and in the right third of the volume; 0 between


def reviewed(server: Server) -> tuple[str, Path]:
    """A run with a kept prediction of ball_0 and a map of disagreement; the run and the file of the map."""
    data = server.data / "balls-heat"
    if not data.exists():
        write_balls(data, subjects=1)
    run = untrained_run(server.checkpoints, "heat", ("M0",), dataset={"name": "Balls", "path": str(data)})
    checkpoint, dataset = server.checkpoints / run / "last.safetensors", open_dataset(data)
    loaded = load_subject(dataset, "ball_0")
    assert loaded.label is not None
    shares = np.zeros(SHAPE, np.float32)
    shares[: SHAPE[0] // 3], shares[-SHAPE[0] // 3 :] = LOW / 100, HIGH / 100
    result = SubjectPrediction(loaded, loaded.label, disagreement=shares)
    save_prediction(
        predictions_folder(server.checkpoints, checkpoint, data), read_metadata(checkpoint), dataset, result
    )
    file = read_predictions(server.checkpoints, checkpoint, data)["ball_0"].disagreement
    assert file is not None
    return run, file


def test_disagreement_is_fetched_on_first_use_and_shown_in_colours_with_a_bar_and_values(
    server: Server, page: Page
) -> None:
    run, file = reviewed(server)
    requested = volume_requests(page)
    page.goto(f"{server.url}/review?model={run}&data={server.data / 'balls-heat'}&case=ball_0")
    wait_until_ready(page)
    expect(page.locator(".findings [role=status]").first).to_contain_text("of errors")  # fetched after the volumes
    before = len(requested)
    open_menu(page, "More")  # where the toolbar has no room for it
    show = page.get_by_role("group", name="Show maps").get_by_role("button", name="disagreement")
    expect(show).to_have_attribute("aria-pressed", "false")
    assert page.get_by_role("img", name="Colours of disagreement").count() == 0
    show.click()
    shown = pane(page, "axial", "disagreement")
    expect(shown.canvas).to_have_attribute("data-waiting", "false")
    settle(page)
    assert len(requested) == before + 1, "the map alone"
    bar = page.get_by_role("img", name="Colours of disagreement: dark for 0 %, bright for 100 %")
    expect(bar).to_be_visible()
    expect(shown.canvas).to_have_attribute("aria-label", f"axial slice {shown.slice + 1} of {SHAPE[2]}, disagreement")
    shown.canvas.focus()
    page.keyboard.press("x")  # no crosshair
    settle(page)
    image = pane(page, "axial", "truth")  # patient's right is on the left: the first voxels are on the right
    high, middle, low = (shown.voxel_colour(column, 3) for column in (2, SHAPE[0] // 2, SHAPE[0] - 3))
    assert middle == image.voxel_colour(SHAPE[0] // 2, 3), "0 has no colour"
    assert sum(low) < sum(high) and low[0] > low[1] and high[0] > high[2]
    readout = page.locator(".readout")
    page.locator(".goto input").fill("2, 20, 5")
    page.keyboard.press("Enter")
    expect(readout).to_contain_text(f"disagreement{LOW} %")
    page.locator(".goto input").fill(f"{SHAPE[0] - 2}, 20, 5")
    page.keyboard.press("Enter")
    expect(readout).to_contain_text(f"disagreement{HIGH} %")
    for _ in range(4):
        shown.canvas.press("ArrowUp")
    assert len(requested) == before + 1, "slices are in the browser"
    shown.canvas.press("h")
    settle(page)
    assert coloured_pixels(shown) == 0
    expect(bar).to_have_count(0)
    file.write_bytes(b"not an image")
    page.reload()
    wait_until_ready(page)
    open_menu(page, "More")
    page.get_by_role("group", name="Show maps").get_by_role("button", name="disagreement").click()
    expect(page.get_by_text(file.name)).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
