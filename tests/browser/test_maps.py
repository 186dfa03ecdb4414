"""Maps of a kept prediction in a real browser: computed with one step, chosen by keyboard, opened by a link."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from torch import Tensor

from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.runs.kept_maps import LEVELS, kinds_of, map_file
from core.runs.predictions import predictions_folder
from tests.browser.conftest import Server
from tests.support.balls import untrained_run, write_balls
from tests.support.checkpoint_files import forge
from tests.support.viewers import Pane, settle, volume_requests, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.long]

CASE = "ball_1"  # stored as LAS
COMPUTED_MS = 120_000  # by a process that begins on a busy machine
LARGER = 12  # times the logits of an untrained network
VOXELS = ((3, 7, 5), (15, 18, 12))  # from 1, in RAS; the values there differ


def segmented(server: Server) -> tuple[str, Path]:
    """A run with a kept prediction without maps; the run and the data set."""
    data = server.data / "balls-maps"
    write_balls(data, subjects=2)
    run = untrained_run(server.checkpoints, "maps", ("M0",), dataset={"name": "Balls", "path": str(data)})
    forge(server.checkpoints / run / "last.safetensors", larger_logits)
    root = f"--checkpoints={server.checkpoints}"
    assert main(["evaluate", run, str(data), "--subject", CASE, "--keep", "--mirror", root]) == 0
    return run, data


def larger_logits(tensors: dict[str, Tensor]) -> None:
    """Multiply the logits of a network, so that they are far from 0."""
    for name, values in tensors.items():
        if "classifier" in name:
            values *= LARGER


def kept_map(server: Server, run: str, data: Path, key: str) -> np.ndarray:
    """A kept map in its unit, shape (i, j, k), canonical order."""
    checkpoint = server.checkpoints / run / "last.safetensors"
    label_map = predictions_folder(server.checkpoints, checkpoint, data) / f"{CASE}.nii.gz"
    (kind,) = [kind for kind in kinds_of(read_metadata(checkpoint), 2, logits=True) if kind.key == key]
    canonical = np.asarray(nib.as_closest_canonical(nib.load(map_file(label_map, kind))).dataobj)
    return kind.low + (kind.high - kind.low) / LEVELS * canonical.astype(float)


def test_maps_are_computed_on_first_use_chosen_by_keys_and_opened_by_a_link(
    server: Server, page: Page, browser: Browser
) -> None:
    run, data = segmented(server)
    requested = volume_requests(page)
    page.goto(f"{server.url}/review?model={run}&data={data}&case={CASE}")
    wait_until_ready(page)
    readout, canvas = page.locator(".readout"), page.locator("canvas.pane[data-row=truth]").first

    def expect_values(name: str, key: str, unit: str, digits: int) -> None:
        found = kept_map(server, run, data, key)
        values = [float(found[i - 1, j - 1, k - 1]) for i, j, k in VOXELS]
        assert abs(values[0] - values[1]) > 10**-digits, "else the test says nothing"
        for voxel, value in zip(VOXELS, values, strict=True):
            page.locator(".goto input").fill(", ".join(map(str, voxel)))
            page.keyboard.press("Enter")
            expect(readout).to_contain_text(f"{name}{value:.{digits}f} {unit}".replace("-", "\N{MINUS SIGN}"))

    canvas.focus()
    page.keyboard.press("u")  # the map is computed, with its progress
    expect(page.locator(".heat-bars")).to_contain_text("Computing")
    shown = page.locator("canvas.pane[data-row=uncertainty]")
    expect(shown).to_have_attribute("data-waiting", "false", timeout=COMPUTED_MS)
    expect(page.get_by_role("img", name="Colours of uncertainty: dark for 0 bit, bright for 1.585 bit")).to_be_visible()
    button = page.locator("[aria-label='Show maps'] button", has_text="uncertainty")  # in a menu where the row is full
    expect(button).to_have_attribute("aria-pressed", "true")
    expect_values("uncertainty", "uncertainty", "bit", 2)
    canvas.focus()
    page.keyboard.press("u")
    expect(page.locator("canvas.pane[data-row='mutual information']")).to_have_attribute("data-waiting", "false")
    bar = page.get_by_role("img", name="Colours of mutual information: dark for 0 bit, bright for ≥ 0.25 bit")
    expect(bar).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("canvas.pane[data-row='probability of bright']")).to_have_attribute("data-waiting", "false")
    chosen = page.get_by_label("Map of the probability")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("canvas.pane[data-row='probability of dark']")).to_have_attribute("data-waiting", "false")
    expect(chosen).to_be_focused()
    expect_values("probability of dark", "probability-2", "%", 1)
    canvas.focus()
    page.keyboard.press("u")  # the logits are computed, too, when they are first shown
    expect(page.locator("canvas.pane[data-row='logit of background']")).to_have_attribute(
        "data-waiting", "false", timeout=COMPUTED_MS
    )
    chosen = page.get_by_label("Map of the logit")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    logit_pane = Pane(page.locator("canvas.pane[data-plane=axial][data-row='logit of bright']"))
    expect(logit_pane.canvas).to_have_attribute("data-waiting", "false")
    colours = "Colours of logit of bright: blue to ≤ \N{MINUS SIGN}10 logit, orange to ≥ 10 logit, none for 0"
    expect(page.get_by_role("img", name=colours)).to_be_visible()
    expect_values("logit of bright", "logit-1", "logit", 1)
    logits = kept_map(server, run, data, "logit-1")
    canvas.focus()
    page.keyboard.press("x")  # no crosshair
    for of in (np.argmin, np.argmax):
        i, j, k = (int(n) for n in np.unravel_index(of(logits), logits.shape))
        assert abs(logits[i, j, k]) > 3, "else the test says nothing"
        page.locator(".goto input").fill(f"{i + 1}, {j + 1}, {k + 1}")
        page.keyboard.press("Enter")
        settle(page)
        red, _, blue = logit_pane.voxel_colour(logits.shape[0] - 1 - i, logits.shape[1] - 1 - j)
        assert (blue - red > 40) if logits[i, j, k] < 0 else (red - blue > 40)
    before = len(requested)
    canvas.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    settle(page)
    assert len(requested) == before, "slices are in the browser"
    expect(page).to_have_url(re.compile("look=.*logit%2520of%2520bright"))
    link = page.url
    other = browser.new_context(viewport={"width": 1440, "height": 1000})
    opened = other.new_page()
    opened.goto(link)
    wait_until_ready(opened)
    row = opened.locator("canvas.pane[data-row='logit of bright']")
    expect(row).to_have_attribute("data-waiting", "false")
    opened.locator("canvas.pane").first.focus()
    opened.keyboard.press("Shift+U")
    expect(opened.locator("canvas.pane[data-row='logit of background']")).to_have_count(1)
    expect(row).to_have_count(0)
    other.close()
