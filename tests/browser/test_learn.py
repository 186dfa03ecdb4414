"""The Learn page in a real browser: its numbers are computed there, and compared with numpy's and torch's here."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

from core.datasets import load_subject, open_dataset
from core.evaluation.metrics import dice_per_class
from core.inference.predictor import Predictor
from core.inspection.feature_maps import features
from core.training.losses import dice_ce_loss, dice_loss
from tests.browser.conftest import Server
from tests.support.learn_data import copy_demo, small_model

pytestmark = pytest.mark.browser
LONG = 120_000


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one subject of the demo data and a small model."""
    folder = tmp_path_factory.mktemp("learn")
    for part in ("data", "checkpoints"):
        (folder / part).mkdir()
    copy_demo(tmp_path_factory, folder / "data")
    small_model(folder / "checkpoints")
    made = Server(folder)
    yield made
    made.stop()


def server_cache(server: Server) -> Path:
    return server.checkpoints / ".cache"


def figure(page: Page, inside: Locator) -> Locator:
    """The figure that something belongs to."""
    return page.locator(".root").filter(has=inside).last


def opened(page: Page, server: Server) -> Page:
    """The page, with the server's own model if it has one (and not the ready-made one)."""
    own = [path.parent.name for path in server.checkpoints.glob("*/best.safetensors")]
    page.goto(f"{server.url}/learn" + (f"?model={own[0]}" if own else ""))
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


def test_a_dragged_mask_is_scored_as_the_project_scores(taught: Server, page: Page) -> None:
    canvas = opened(page, taught).get_by_role("application", name="The predicted mask over the true one")
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
    page.get_by_role("button", name="Put it right").click()
    truth, prediction, numbers = check_numbers(shown)
    np.testing.assert_array_equal(truth, prediction)
    assert numbers["dice"] == 1 and shown.locator("dd[data-id=dice]").inner_text() == "1.000"
    canvas.press("ArrowRight")
    _, prediction, numbers = check_numbers(shown)
    np.testing.assert_array_equal(prediction, np.roll(truth, 1, axis=1))
    assert shown.locator("dd[data-id=dice]").inner_text() == f"{numbers['dice']:.3f}"
    assert shown.locator("dd[data-id=ce]").inner_text() == f"{numbers['ce']:.3f}"
    page.get_by_role("button", name="Predict nothing").click()
    _, prediction, numbers = check_numbers(shown)
    assert not prediction.any() and numbers["dice"] == 0


def test_growing_confidence_and_thin_structures(taught: Server, page: Page) -> None:
    canvas = opened(page, taught).get_by_role("application", name="The predicted mask over the true one")
    shown = figure(page, canvas)
    page.get_by_role("button", name="Put it right").click()
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
        page.get_by_role("button", name="Put it right").click()
        canvas.press("ArrowDown")
        scores[name] = check_numbers(shown)[2]["dice"] or 0
    assert scores["GM in a slice"] < scores["round"] - 0.05, "thin structures suffer most from one voxel"


def test_the_ball_and_its_accuracy(taught: Server, page: Page) -> None:
    shown = figure(opened(page, taught), page.get_by_role("slider", name="Size of the structure"))
    for diameter, shift in ((8, 1), (3, 1), (54, 4)):
        page.get_by_role("slider", name="Size of the structure").fill(str(diameter))
        page.get_by_role("slider", name="Mask is off by").fill(str(shift))
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
    label = load_subject(open_dataset(taught.data / "demo"), "subject-1").label
    assert label is not None
    expect(shown.get_by_text(f"Call every voxel background, and {100 * (label == 0).mean():.1f} %")).to_be_visible()


def test_a_kernel_multiplies_and_adds(taught: Server, page: Page) -> None:
    pane = opened(page, taught).get_by_role("img", name="this slice; arrow keys move the kernel")
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
            assert float(read["flat"]) == pytest.approx(values[9:18] @ flat[read["pattern"]], abs=1e-5)
            assert float(read["solid"]) == pytest.approx(values @ solid[read["pattern"]], abs=1e-5)
    page.get_by_role("button", name="edges").click()
    expect(shown.locator("dd[data-id=flat]")).to_have_text("0.0")  # within the sheet a flat kernel sees nothing
    expect(shown.locator("dd[data-id=solid]")).to_have_text("41.5")
    at = shown.get_attribute("data-at")
    pane.hover(position={"x": 30, "y": 40})
    assert shown.get_attribute("data-at") != at


def test_what_was_drawn_is_counted_as_one_goes_on(taught: Server, page: Page) -> None:
    slider = opened(page, taught).get_by_role("slider", name="Drawn")
    expect(slider).to_be_visible(timeout=LONG)
    shown = figure(page, slider)
    report = json.loads(next((server_cache(taught) / "places").glob("*/places.json")).read_text())
    for rule, button in enumerate(("anywhere", "quick: 33 % around a class", "fast: 90 % around a class")):
        page.get_by_role("button", name=button).click()
        for count in (1, 60, 200):
            slider.fill(str(count))
            drawn = report["draws"][rule]
            centred = np.bincount(drawn["centres"][:count], minlength=4)
            assert shown.get_attribute("data-centred") == ",".join(map(str, centred))
            inside = [float(v) for v in (shown.get_attribute("data-inside") or "").split(",")]
            np.testing.assert_allclose(inside, np.mean(drawn["shares"][:count], axis=0), atol=1e-4)
            assert shown.get_attribute("data-start") == ",".join(map(str, drawn["starts"][count - 1]))
    slider.fill("10")
    page.get_by_role("button", name="Draw one").click()
    expect(shown).to_have_attribute("data-count", "11")
    page.get_by_role("button", name="Play").click()
    expect(shown).not_to_have_attribute("data-count", "11")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    assert 11 < int(shown.get_attribute("data-count") or 0) <= 200


def test_the_histogram_tells_what_a_grey_value_can_mean(taught: Server, page: Page) -> None:
    picture = opened(page, taught).get_by_role("img", name="Histogram of T1 intensities by tissue")
    shown = figure(page, picture)
    picture.press("ArrowRight")
    picture.press("ArrowRight")
    said = shown.get_by_role("status").first.inner_text()
    loaded = load_subject(open_dataset(taught.data / "demo"), "subject-1")
    assert loaded.label is not None
    head = loaded.label > 0
    values, label = loaded.image[0][head], loaded.label[head]
    counts = [np.histogram(values[label == c], 64, (values.min(), values.max()))[0][33] for c in (1, 2, 3)]
    for name, count in zip(("CSF", "GM", "WM"), counts, strict=True):
        share = 100 * count / sum(counts)
        assert f"{share:.1f} % {name}" in said or f"{share:.0f} % {name}" in said, said
    shown.get_by_role("button", name="WM").click()
    expect(picture.locator("polygon")).to_have_count(2)


def test_from_pre_activations_to_a_label(taught: Server, page: Page) -> None:
    node = opened(page, taught).get_by_role("button", name="logits pre-activations")
    expect(node).to_be_visible(timeout=LONG)
    shown = figure(page, node)
    node.click()
    expect(shown.locator(".tile")).to_have_count(4)
    loaded = load_subject(open_dataset(taught.data / "demo"), "subject-1")
    model = next(taught.checkpoints.glob("*/best.safetensors"))
    manifest = json.loads(next((server_cache(taught) / "features").glob("*/*/manifest.json")).read_text())
    width, length, height = manifest["sub_volume"]["size"]
    assert (width, length, height) == (128, 164, 16), "as wide and as long as the head, as high as in training"
    found = features(Predictor(model), loaded.image, loaded.geometry.spacing_mm, (width, length, height))
    logits = found.stage("logits").values.transpose(0, 2, 1)[:, ::-1]  # (class, row, column)
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
    for name, tiles in (("encoder level 1", 8), ("bottleneck bottom", 16), ("label label", 2), ("input image", 2)):
        shown.get_by_role("button", name=name).click()
        expect(shown.locator(".tile")).to_have_count(tiles)
    shown.get_by_role("button", name="decoder level 0").press("Enter")
    expect(shown).to_have_attribute("data-stage", "decoder-0")


def test_the_table_of_contents_leads_to_the_chapters(taught: Server, page: Page) -> None:
    link = opened(page, taught).get_by_role("link", name="Why imbalance matters")
    expect(page.get_by_role("slider", name="Size of the structure")).to_be_visible(timeout=LONG)
    link.click()
    expect(page.get_by_role("heading", name="Why imbalance matters")).to_be_in_viewport()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (800, "dark")])
def test_nothing_scrolls_sideways_and_no_figure_is_cut(
    taught: Server, browser: Browser, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page, raised = context.new_page(), []
    page.on("pageerror", lambda error: raised.append(str(error)))
    opened(page, taught)
    for thing in (page.get_by_role("slider", name="Drawn"), page.get_by_role("button", name="decoder level 0")):
        expect(thing).to_be_visible(timeout=LONG)
    wide = "[...document.querySelectorAll('[data-testid=stMain], html')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.evaluate(wide)) <= 0
    for root in page.locator(".root").all():
        assert root.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    assert raised == []
    context.close()


def test_on_a_fresh_server_the_subject_is_made_and_the_page_fills(tmp_path: Path, page: Page) -> None:
    server = Server(tmp_path)
    try:
        opened(page, server)
        expect(page.get_by_text("Making subject-1")).to_be_visible()
        expect(page.get_by_role("application", name="The predicted mask over the true one")).to_be_visible()
        expect(page.get_by_role("img", name="Histogram of T1 intensities by tissue")).to_be_visible(timeout=LONG)
        expect(page.get_by_role("slider", name="Drawn")).to_be_visible(timeout=LONG)
    finally:
        server.stop()
