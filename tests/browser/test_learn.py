"""The Learn page in a real browser: numbers computed by its scripts equal those of numpy and torch."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

from core.datasets import load_subject, open_dataset
from core.evaluation.metrics import dice_per_class
from core.imaging.display import upright_slices
from core.inference.predictor import Predictor
from core.inspection.feature_maps import compute_feature_maps
from core.losses.dice import dice_loss
from core.losses.dice_ce import dice_ce_loss
from tests.browser.conftest import Server
from tests.support.learn_data import small_model
from tests.support.watching import wait_until

pytestmark = pytest.mark.browser
LONG = 120_000


@pytest.fixture(scope="module")
def model(server: Server) -> Path:
    """The checkpoint of an untrained network for the demo subject."""
    return small_model(server.checkpoints, "learn")


def server_cache(server: Server) -> Path:
    return server.checkpoints / ".cache"


def figure(page: Page, inside: Locator) -> Locator:
    """The figure that something belongs to."""
    return page.locator(".root").filter(has=inside).last


@pytest.fixture
def page(page: Page, server: Server, model: Path) -> Page:
    """The Learn page with the small model."""
    return open_learn(page, server, model)


def open_learn(page: Page, server: Server, model: Path) -> Page:
    page.goto(f"{server.url}/learn?model={model.parent.name}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Learn")
    return page


def masks(shown: Locator) -> tuple[np.ndarray, np.ndarray, dict[str, float | None]]:
    """True and predicted mask of the figure, and its numbers."""
    read: dict[str, str] = shown.evaluate("e => ({...e.dataset})")
    width, height = int(read["width"]), int(read["height"])
    both = (
        np.unpackbits(np.frombuffer(base64.b64decode(read[n]), np.uint8))[: width * height].reshape(height, width)
        for n in ("truth", "prediction")
    )
    truth, prediction = both
    names = ("confidence", "dice", "accuracy", "ce", "loss")
    return truth, prediction, {name: float(read[name]) if read[name] else None for name in names}


def check_numbers(shown: Locator) -> tuple[np.ndarray, np.ndarray, dict[str, float | None]]:
    """Against the project's own metrics and losses."""
    truth, prediction, numbers = masks(shown)
    c = numbers["confidence"]
    assert c is not None
    dice = float(dice_per_class(truth[..., None], prediction[..., None], 2)[1])
    assert numbers["dice"] == (None if math.isnan(dice) else pytest.approx(dice, abs=1e-9))
    assert numbers["accuracy"] == pytest.approx((truth == prediction).mean(), abs=1e-9)
    foreground = np.where(prediction, c, 1 - c)
    logits = torch.from_numpy(np.log(np.stack([1 - foreground, foreground]))[None, ..., None].astype(np.float32))
    target = torch.from_numpy(truth[None, ..., None].astype(np.int64))
    loss, both = float(dice_loss(logits, target)), float(dice_ce_loss(logits, target))
    assert numbers["loss"] == pytest.approx(loss, abs=2e-5)
    assert numbers["ce"] == pytest.approx(both - loss, abs=2e-5)
    return truth, prediction, numbers


@pytest.mark.long
def test_dragged_mask_is_scored_as_by_the_metrics_and_losses(page: Page) -> None:
    canvas = page.get_by_role("application", name="The predicted mask over the true one")
    shown = figure(page, canvas)
    truth, before, _ = check_numbers(shown)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    cell = box["width"] / truth.shape[1]
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 5 * cell, box["y"] + box["height"] / 2 + 3 * cell, steps=4)
    page.mouse.up()
    _, after, _ = check_numbers(shown)
    np.testing.assert_array_equal(after, np.roll(before, (3, -5), axis=(0, 1)))
    page.get_by_role("button", name="Reset").click()
    truth, prediction, numbers = check_numbers(shown)
    np.testing.assert_array_equal(truth, prediction)
    assert numbers["dice"] == 1 and shown.locator("dd[data-id=dice]").inner_text() == "1.000"
    canvas.press("ArrowRight")
    _, prediction, numbers = check_numbers(shown)
    np.testing.assert_array_equal(prediction, np.roll(truth, 1, axis=1))
    assert shown.locator("dd[data-id=dice]").inner_text() == f"{numbers['dice']:.3f}"
    assert shown.locator("dd[data-id=ce]").inner_text() == f"{numbers['ce']:.3f}"
    page.get_by_role("button", name="Empty prediction").click()
    _, prediction, numbers = check_numbers(shown)
    assert not prediction.any() and numbers["dice"] == 0


@pytest.mark.long
def test_grown_masks_confidence_and_thin_structures(page: Page) -> None:
    canvas = page.get_by_role("application", name="The predicted mask over the true one")
    shown = figure(page, canvas)
    page.get_by_role("button", name="Reset").click()
    truth, _, _ = check_numbers(shown)
    j, i = np.indices(truth.shape)
    for by in (3, -3):
        page.get_by_role("slider", name="Grow or shrink").fill(str(by))
        _, prediction, _ = check_numbers(shown)
        near = np.zeros_like(truth)
        for y, x in zip(*np.nonzero(truth if by > 0 else 1 - truth), strict=True):
            near |= ((j - y) ** 2 + (i - x) ** 2 <= 9).astype(np.uint8)
        np.testing.assert_array_equal(prediction, near if by > 0 else 1 - near)
    page.get_by_role("slider", name="Confidence").fill("0.99")
    _, _, sure = check_numbers(shown)
    assert sure["confidence"] == 0.99
    scores = {}
    for name in ("round", "GM in a slice"):
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("button", name="Reset").click()
        canvas.press("ArrowDown")
        scores[name] = check_numbers(shown)[2]["dice"] or 0
    assert scores["GM in a slice"] < scores["round"] - 0.05, "thin structures suffer most from one voxel"


@pytest.mark.long
def test_accuracy_and_dice_of_a_shifted_ball(server: Server, page: Page) -> None:
    shown = figure(page, page.get_by_role("slider", name="Size of the structure"))
    for diameter, shift in ((8, 1), (3, 1), (54, 4)):
        page.get_by_role("slider", name="Size of the structure").fill(str(diameter))
        page.get_by_role("slider", name="Shift of the mask").fill(str(shift))
        read: dict[str, str] = shown.evaluate("e => ({...e.dataset})")
        middle = 32 if diameter % 2 else 31.5
        x, y, z = np.indices((64, 64, 64))
        truth, prediction = (
            (x - s - middle) ** 2 + (y - middle) ** 2 + (z - middle) ** 2 <= (diameter / 2) ** 2 for s in (0, shift)
        )
        assert int(read["voxels"]) == truth.sum() == prediction.sum()
        dice = dice_per_class(truth.astype(np.uint8), prediction.astype(np.uint8), 2)[1]
        assert float(read["dice"]) == pytest.approx(float(dice), abs=1e-9)
        assert float(read["accuracy"]) == pytest.approx((truth == prediction).mean(), abs=1e-9)
    label = load_subject(open_dataset(server.data / "demo"), "subject-1").label
    assert label is not None
    expect(shown.get_by_text(f"Label every voxel background, and {100 * (label == 0).mean():.2f} %")).to_be_visible()


@pytest.mark.long
def test_kernel_sums_equal_the_products(page: Page) -> None:
    pane = page.get_by_role("img", name="this slice; arrow keys move the kernel")
    shown = figure(page, pane)
    flat = {"average": np.full(9, 1 / 9), "edge": np.r_[[-1 / 8] * 4, 1, [-1 / 8] * 4], "through": np.zeros(9)}
    solid = {
        "average": np.full(27, 1 / 27), "edge": np.r_[[-1 / 26] * 13, 1, [-1 / 26] * 13],
        "through": np.r_[[-1 / 9] * 9, [0] * 9, [1 / 9] * 9],
    }  # fmt: skip
    for source in ("T1 of subject-1", "a sheet in one slice"):
        page.get_by_role("button", name=source).click()
        for name in ("average", "edges", "change between slices"):
            page.get_by_role("button", name=name).click()
            pane.press("ArrowLeft")
            read: dict[str, str] = shown.evaluate("e => ({...e.dataset})")
            values = np.array([float(v) for v in read["values"].split(",")])
            assert float(read["sum2d"]) == pytest.approx(values[9:18] @ flat[read["pattern"]], abs=1e-5)
            assert float(read["sum3d"]) == pytest.approx(values @ solid[read["pattern"]], abs=1e-5)
    page.get_by_role("button", name="edges").click()
    expect(shown.locator("dd[data-id=sum2d]")).to_have_text("0.0")  # the sheet is within the slice
    expect(shown.locator("dd[data-id=sum3d]")).to_have_text("41.5")
    at = shown.get_attribute("data-center")
    pane.hover(position={"x": 30, "y": 40})
    assert shown.get_attribute("data-center") != at


@pytest.mark.long
def test_statistics_of_drawn_sub_volumes_equal_the_report(server: Server, page: Page) -> None:
    slider = page.get_by_role("slider", name="Drawn")
    expect(slider).to_be_visible(timeout=LONG)
    shown = figure(page, slider)
    report = json.loads(next((server_cache(server) / "places").glob("*/report.json")).read_text())
    for rule, button in enumerate(("anywhere", "quick: 33 % on a class", "fast: 90 % on a class")):
        page.get_by_role("button", name=button).click()
        for count in (1, 60, 200):
            slider.fill(str(count))
            drawn = report["draws"][rule]
            centred = np.bincount(drawn["centres"][:count], minlength=4)
            assert shown.get_attribute("data-centred") == ",".join(map(str, centred))
            inside = [float(v) for v in (shown.get_attribute("data-shares") or "").split(",")]
            np.testing.assert_allclose(inside, np.mean(drawn["shares"][:count], axis=0), atol=1e-4)
            assert shown.get_attribute("data-start") == ",".join(map(str, drawn["starts"][count - 1]))
    slider.fill("10")
    page.get_by_role("button", name="Draw one").click()
    expect(shown).to_have_attribute("data-count", "11")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(shown).not_to_have_attribute("data-count", "11")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    assert 11 < int(shown.get_attribute("data-count") or 0) <= 200


@pytest.mark.long
def test_histogram_gives_class_shares_of_a_bin(server: Server, page: Page) -> None:
    picture = page.get_by_role("img", name="Histogram of T1 intensities by tissue")
    shown = figure(page, picture)
    picture.press("ArrowRight")
    picture.press("ArrowRight")
    status = shown.get_by_role("status").first.inner_text()
    loaded = load_subject(open_dataset(server.data / "demo"), "subject-1")
    assert loaded.label is not None
    head = loaded.label > 0
    values, label = loaded.image[0][head], loaded.label[head]
    counts = [np.histogram(values[label == c], 64, (values.min(), values.max()))[0][33] for c in (1, 2, 3)]
    for name, count in zip(("CSF", "GM", "WM"), counts, strict=True):
        share = 100 * count / sum(counts)
        assert f"{share:.1f} % {name}" in status or f"{share:.0f} % {name}" in status, status
    shown.get_by_role("button", name="WM").click()
    expect(picture.locator("polygon")).to_have_count(2)


@pytest.mark.long
def test_logits_softmax_and_label_of_a_voxel(server: Server, model: Path, page: Page) -> None:
    node = page.get_by_role("button", name="logits, ")
    expect(node).to_be_visible(timeout=LONG)
    shown = figure(page, node)
    node.click()
    expect(shown.locator(".tile")).to_have_count(4)
    loaded = load_subject(open_dataset(server.data / "demo"), "subject-1")
    manifest = json.loads(next((server_cache(server) / "features").glob("*/*/manifest.json")).read_text())
    width, length, height = manifest["sub_volume"]["size"]
    assert (width, length, height) == (128, 164, 16), "as wide and as long as the head, as high as in training"
    found = compute_feature_maps(Predictor(model), loaded.image, loaded.geometry.spacing_mm, (width, length, height))
    logits = upright_slices(found.stage("logits").values, loaded.geometry.oriented)  # (class, row, column)
    canvas = shown.get_by_role("img", name="CSF").first
    for key, moves in (("ArrowRight", 3), ("ArrowUp", 5)):
        for _ in range(moves):
            canvas.press(key)
    read: dict[str, Any] = shown.evaluate("e => ({...e.dataset})")
    column, row = (int(n) for n in read["at"].split(","))
    assert (column, row) == (width // 2 + 3, length // 2 - 5)
    expected = logits[:, row, column]
    np.testing.assert_allclose([float(v) for v in read["logits"].split(",")], expected, atol=1e-3)
    raised = np.exp(expected)
    np.testing.assert_allclose([float(v) for v in read["softmax"].split(",")], raised / raised.sum(), atol=1e-3)
    assert int(read["label"]) == expected.argmax()
    expect(shown.get_by_role("row").filter(has_text="class")).to_have_count(1)
    expect(shown.locator(".best td").first).to_have_text(("background", "CSF", "GM", "WM")[int(expected.argmax())])
    for name, tiles in (("encoder level 1", 8), ("bottleneck, ", 16), ("label, ", 2), ("image, ", 2)):
        shown.get_by_role("button", name=name).click()
        expect(shown.locator(".tile")).to_have_count(tiles)
    shown.get_by_role("button", name="decoder level 0").press("Enter")
    expect(shown).to_have_attribute("data-stage", "decoder-0")


def test_table_of_contents_links_to_the_chapters(page: Page) -> None:
    link = page.get_by_role("link", name="Why imbalance matters")
    expect(page.get_by_role("slider", name="Size of the structure")).to_be_visible(timeout=LONG)
    link.click()
    expect(page.get_by_role("heading", name="Why imbalance matters")).to_be_in_viewport()


@pytest.mark.long(20)
def test_page_and_figures_do_not_scroll_sideways(server: Server, model: Path, browser: Browser) -> None:
    """Opened narrow, and then made wide."""
    context = browser.new_context(viewport={"width": 800, "height": 900}, color_scheme="dark")
    page, raised = context.new_page(), []
    page.on("pageerror", lambda error: raised.append(str(error)))
    open_learn(page, server, model)
    for element in (page.get_by_role("slider", name="Drawn"), page.get_by_role("button", name="decoder level 0")):
        expect(element).to_be_visible(timeout=LONG)
    beyond = "e => e.scrollWidth - e.clientWidth"
    wide = "[...document.querySelectorAll('[data-testid=stMain], html')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.evaluate(wide)) <= 0
    for root in page.locator(".root").all():
        assert root.evaluate(beyond) <= 0
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_function(f"Math.max(...{wide}) <= 0")
    for root in page.locator(".root").all():
        wait_until(lambda: root.evaluate(beyond) <= 0)  # noqa: B023 - called at once
    assert raised == []
    context.close()
