"""Experiments clicked through in a real browser with tiny real trainings: all folds, refit, the folds as one model on
Review, Predict and Quiz, postprocessing, and a search."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from core import runs
from core.checkpointing.metadata import read_metadata
from core.formatting import format_score
from core.runs import groups
from core.runs.group_scores import cross_validation
from core.runs.store.folder import STATE
from core.runs.store.groups import read_group, read_groups
from tests.browser.conftest import Server
from tests.support.balls import CLASSES, write_balls
from tests.support.menus import choose_option
from tests.support.viewers import coloured_pixels, pane, wait_until_ready
from tests.support.watching import wait_until

pytestmark = pytest.mark.browser

MINUTE_MS = 60_000
RUN_TIMEOUT_S = 600.0  # of a run of some seconds, on a busy machine
FEW_STEPS = (
    "epochs~3~minutes~0~samples_train~16~samples_val~2~batch_size~2~sub_volume~16,16,16~whole_every~3~folds~3~"
    "device~cpu~threads~1~channels~8,16~learning_rate~0.01"
)
SUBJECTS = 6


def data_set(server: Server, name: str) -> str:
    if not (server.data / name).exists():
        write_balls(server.data / name, subjects=SUBJECTS)
    return name


def open_train(server: Server, page: Page, data: str, run_name: str) -> None:
    page.goto(f"{server.url}/train?data={data}&preset=quick&set={FEW_STEPS}")
    field = page.get_by_label("Name of the run", exact=True)
    field.fill(run_name)
    field.press("Enter")
    expect(page.get_by_text(f"--name {run_name}").first).to_be_visible(timeout=MINUTE_MS)


def in_address(page: Page, name: str) -> str:
    page.wait_for_url(re.compile(rf"[?&]{name}="), timeout=MINUTE_MS)
    return parse_qs(urlsplit(page.url).query)[name][0]


def wait_for_ends(root: Path, ids: Callable[[], tuple[str, ...]], number: int) -> None:
    """Wait until so many runs, one after another, exist and have ended well."""

    def ended_state(position: int) -> runs.RunState | None:
        known = ids()
        if len(known) <= position or not (root / known[position] / STATE).is_file():
            return None  # a group names its runs before they are made
        state = runs.get_run(root, known[position]).state
        return state if state.state in runs.ENDED else None

    for position in range(number):
        ended = wait_until(partial(ended_state, position), RUN_TIMEOUT_S, 0.3)
        assert ended.state == "finished", ended


@pytest.fixture(autouse=True)
def nothing_trains_afterwards(server: Server) -> Iterator[None]:
    """A test that fails leaves no runs that train or wait."""
    yield
    for group in read_groups(server.checkpoints):
        if any(run.state.state not in runs.ENDED for run in groups.summarise(server.checkpoints, group).runs):
            groups.stop_group(server.checkpoints, group)


@pytest.mark.long(180)
@pytest.mark.timeout(1800)  # four trainings on a busy machine
def test_all_folds_refit_and_the_folds_as_one_model(server: Server, page: Page) -> None:
    data, root = data_set(server, "balls-folds"), server.checkpoints
    open_train(server, page, data, "cross")
    all_folds = page.get_by_role("button", name="Train all folds")
    expect(all_folds).to_be_enabled(timeout=MINUTE_MS)
    all_folds.click()
    group_id = in_address(page, "group")
    group = read_group(root, group_id)
    expect(page.get_by_role("heading", name="cross", exact=True)).to_be_visible()
    wait_for_ends(root, lambda: group.runs, 3)

    expect(page.get_by_text("3 of 3 folds finished")).to_be_visible(timeout=MINUTE_MS)
    table = page.locator("table").filter(has_text="SD over folds")
    scores = cross_validation(root, groups.summarise(root, group))
    assert len(scores.scored) == SUBJECTS
    spreads = {name: scores.spread(name) for name in CLASSES[1:]} | {"mean": scores.mean_spread()}
    for name, spread in spreads.items():
        cells = table.get_by_role("row").filter(has_text=name).get_by_role("cell")
        dice = [format_score(value) for value in (spread.mean, spread.sd_subjects, spread.sd_folds)]
        for number, text in enumerate(dice):
            expect(cells.nth(number)).to_have_text(text, timeout=MINUTE_MS)
        expect(cells.last).to_have_text(str(SUBJECTS))
    expect(page.get_by_text("held-out subjects scored so far")).to_have_count(0)
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()

    page.get_by_role("button", name="Combine 3 networks").click()
    use = page.get_by_role("button", name="Review", exact=True)
    expect(use).to_be_visible(timeout=2 * MINUTE_MS)
    page.get_by_text("Postprocessing", exact=True).click()
    page.get_by_role("button", name="Choose by held-out subjects").click()
    decided = page.get_by_text(f"Decided by {SUBJECTS} held-out subjects, on whole volumes.")
    expect(decided).to_be_visible(timeout=2 * MINUTE_MS)

    use.click()
    key = f"ensembles/{group_id}"
    assert in_address(page, "model") == key
    page.get_by_role("button", name="Segment this case").click(timeout=MINUTE_MS)
    wait_until_ready(page)
    expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible(timeout=3 * MINUTE_MS)
    assert coloured_pixels(pane(page, "axial", "prediction")) > 0
    expect(page.get_by_text("3 networks")).to_be_visible()
    expect(page.get_by_text("Every subject was trained on by at least one of the networks")).to_be_visible()

    page.goto(f"{server.url}/predict?model={key}")
    expect(page.get_by_text("an ensemble of 3 networks")).to_be_visible()
    image = server.data / data / "imagesTr" / "ball_0.nii.gz"
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files([str(image)])
    page.get_by_role("button", name="Segment", exact=True).click(timeout=MINUTE_MS)
    expect(page.get_by_role("button", name="Save the segmentation")).to_be_visible(timeout=3 * MINUTE_MS)

    page.goto(f"{server.url}/quiz?model={key}")
    expect(page.get_by_text("trained on every labelled subject of this data set")).to_be_visible()

    page.goto(f"{server.url}/runs?group={group_id}")
    page.get_by_role("button", name="Train on all subjects").click()
    refit = in_address(page, "run")
    expect(page.get_by_role("heading", name="cross refit", exact=True)).to_be_visible()
    expect(page.get_by_text("holds out none: no Dice is measured")).to_be_visible()
    wait_for_ends(root, lambda: (refit,), 1)
    split = read_metadata(root / refit / "best.safetensors").split
    assert len(split["train"]) == SUBJECTS and not split["val"] and not split["test"]


@pytest.mark.long(120)
def test_search_is_started_on_train_and_ends_with_its_best_trial(server: Server, page: Page) -> None:
    data, root = data_set(server, "balls-folds"), server.checkpoints
    open_train(server, page, data, "search")
    page.get_by_text("Search for better settings").click()
    settings = page.get_by_role("combobox", name="Settings to search")
    choose_option(settings, "Learning rate", typed="Learning rate")
    page.keyboard.press("Escape")
    expect(page.get_by_text("--search learning_rate=")).to_be_visible(timeout=MINUTE_MS)
    trials = page.get_by_label("Trials", exact=True)
    trials.fill("2")
    trials.press("Enter")
    expect(page.get_by_text(re.compile(r"--trials 2(\s|$)"))).to_be_visible(timeout=MINUTE_MS)
    page.get_by_role("button", name="Start the search").click()
    group_id = in_address(page, "group")
    wait_for_ends(root, lambda: read_group(root, group_id).runs, 2)
    chart = page.locator(".st-key-sweep-parallel .js-plotly-plot")
    expect(chart.locator(".scatterlayer .trace")).to_have_count(2, timeout=2 * MINUTE_MS)
    expect(page.get_by_text("of 2 finished")).to_be_visible()
    best = max((runs.get_run(root, id).state.best.mean_dice or 0, id) for id in read_group(root, group_id).runs)  # type: ignore[union-attr]
    expect(page.get_by_text(f"{best[0]:.3f}", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Open its run").click()
    assert in_address(page, "run") == best[1]
