"""Feature maps of a stage on Review in a real browser: chosen, computed, shown with their range, opened by a link."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from core.cli import main
from core.runs.kept_maps import LEVELS
from core.runs.kept_stage_maps import KeptStage, read_kept_stage, stage_map_file
from core.runs.predictions import read_predictions
from tests.browser.conftest import Server
from tests.support.accessibility import findings
from tests.support.balls import untrained_run, write_balls
from tests.support.menus import choose_option
from tests.support.viewers import settle, volume_requests, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.long]

CASE = "ball_1"  # stored as LAS
COMPUTED_MS = 120_000  # by a process that begins on a busy machine


def kept_stage(server: Server, run: str, data: Path, stage: str) -> tuple[KeptStage, Path]:
    """The kept maps of a stage, and the label map of their prediction."""
    prediction = read_predictions(server.checkpoints, server.checkpoints / run / "last.safetensors", data)[CASE]
    kept = read_kept_stage(prediction.file, prediction.made_at, stage)
    assert kept is not None
    return kept, prediction.file


def test_feature_maps_of_a_stage_are_computed_shown_and_opened_by_a_link(
    server: Server, page: Page, browser: Browser
) -> None:
    data = server.data / "balls-features"
    write_balls(data, subjects=2)
    run = untrained_run(server.checkpoints, "features", ("M0",), dataset={"name": "Balls", "path": str(data)})
    root = f"--checkpoints={server.checkpoints}"
    assert main(["evaluate", run, str(data), "--subject", CASE, "--keep", root]) == 0
    requested = volume_requests(page)
    page.goto(f"{server.url}/review?model={run}&data={data}&case={CASE}")
    wait_until_ready(page)
    page.get_by_text("Feature maps", exact=True).click()
    chosen = page.get_by_role("combobox", name="Stage")
    expect(chosen).to_be_visible(timeout=COMPUTED_MS)  # the network is read by a process
    choose_option(chosen, "bottleneck, 16 channels")
    page.get_by_role("button", name="Compute bottleneck").click()
    expect(page.get_by_text("bottleneck: voxels of 2 × 2 × 3 mm")).to_be_visible(timeout=COMPUTED_MS)
    mean = page.locator("canvas.pane[data-row='bottleneck mean']")
    expect(mean).to_have_attribute("data-waiting", "false")  # what was computed is shown, once
    kept, label_map = kept_stage(server, run, data, "bottleneck")
    before, last, select = len(requested), kept.maps[-1], page.get_by_label("Map of the feature")
    select.select_option(label=f"bottleneck, channel {last.channel}")
    name = f"bottleneck channel {last.channel}"
    shown = page.locator(f"canvas.pane[data-row='{name}']")
    expect(shown).to_have_attribute("data-waiting", "false")
    assert len(requested) == before + 1, "the map alone, when it is first shown"
    bar = page.get_by_role("img", name=re.compile(f"Colours of {name}: "))
    expect(bar).to_be_visible()
    expect(shown).to_have_attribute("aria-label", re.compile(f"axial slice .*, {name}"))
    file = stage_map_file(label_map, "bottleneck", last.key)
    stored = np.asarray(nib.as_closest_canonical(nib.load(file)).dataobj)
    values = last.low + (last.high - last.low) / LEVELS * stored.astype(float)
    between = np.unique(stored)[1:-1]  # the ends are shown as those of a range
    assert len(between) > 10, "else the test says nothing"
    readout = page.locator(".readout")
    for one in (between[len(between) // 5], between[-len(between) // 5]):
        i, j, k = (int(n) + 1 for n in np.argwhere(stored == one)[0])
        page.locator(".goto input").fill(f"{i}, {j}, {k}")
        page.keyboard.press("Enter")
        digits = max(int(np.ceil(-np.log10((last.high - last.low) / LEVELS))), 0)
        text = f"{values[i - 1, j - 1, k - 1]:.{digits}f}".replace("-", "\N{MINUS SIGN}")
        expect(readout).to_contain_text(f"{name}{text}")
    select.select_option(label="bottleneck, mean")
    expect(page.locator("canvas.pane[data-row='bottleneck mean']")).to_have_attribute("data-waiting", "false")
    settle(page)
    expect(page).to_have_url(re.compile("stage=bottleneck"))
    expect(page).to_have_url(re.compile("look=.*bottleneck%2520mean"))
    assert findings(page) == [], "axe finds nothing on the page"
    other = browser.new_context(viewport={"width": 1440, "height": 1000})
    opened = other.new_page()
    opened.goto(page.url)
    wait_until_ready(opened)
    expect(opened.locator("canvas.pane[data-row='bottleneck mean']")).to_have_attribute("data-waiting", "false")
    expect(opened.get_by_role("combobox", name="Stage")).to_be_visible(timeout=COMPUTED_MS)
    other.close()
    page.get_by_text("Feature maps", exact=True).click()
    expect(page).not_to_have_url(re.compile("stage="))
    expect(page.locator("canvas.pane[data-row='bottleneck mean']")).to_have_count(0)
