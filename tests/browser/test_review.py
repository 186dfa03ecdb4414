"""The Review page in a real browser with a run trained on real volumes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.cli import main
from tests.browser.conftest import ROOT, Server, hippocampus_folder
from tests.support.quiz_player import Player
from tests.support.viewers import COMPLETE, coloured_pixels, pane, rest_pointer, settle, voxel, wait_until_ready
from tests.support.wheel_sweeps import Traffic, at_slice, hold_rest_timer, sweep, waiting_reports

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def hippocampus(server: Server, test_data: Path) -> str:
    """A run of a few seconds on the real volumes."""
    data = hippocampus_folder(server, test_data)
    options = ["--preset", "quick", "--minutes", "0.2", "--name", "hippocampus"]
    options += ["--val-subjects", "hippocampus_001,hippocampus_004,hippocampus_006"]
    command = [sys.executable, "-m", "core", "train", str(data), *options, "--checkpoints", str(server.checkpoints)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[0]


def core(server: Server, *arguments: str) -> str:
    """Run a command in this process; its standard output."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*arguments, "--checkpoints", str(server.checkpoints)]) == 0
    return out.getvalue()


@pytest.mark.long
def test_cases_are_segmented_scored_and_sorted(server: Server, page: Page, hippocampus: str) -> None:
    shutil.rmtree(server.checkpoints / hippocampus / "predictions", ignore_errors=True)  # those that training kept
    page.goto(f"{server.url}/review?model={hippocampus}")
    wait_until_ready(page)
    expect(page.get_by_role("option")).to_have_count(3)
    expect(page.locator("canvas.pane")).to_have_count(2)  # one plane: the image and the truth
    assert pane(page, "axial", "truth").letters == "RLAP"
    page.get_by_role("button", name="Segment all 3 remaining cases").click()
    expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible(timeout=2 * MINUTE_MS)
    expect(page.get_by_role("option").filter(has_text="–")).to_have_count(0, timeout=2 * MINUTE_MS)
    expect(page.get_by_role("button", name="Segment")).to_have_count(0)
    scores = json.loads(core(server, "evaluate", hippocampus, str(server.data / "hippo"), "--split", "val", "--json"))
    by_subject = {s["id"]: s for s in scores["subjects"]}
    means = {id: sum(s["dice"].values()) / len(s["dice"]) for id, s in by_subject.items()}
    rows = page.get_by_role("option").all_inner_texts()
    assert [row.split()[0] for row in rows] == sorted(means, key=lambda id: means[id])
    assert [row.split()[-1] for row in rows] == [f"{m:.3f}" for m in sorted(means.values())]
    shown = page.get_by_role("option", selected=True).inner_text().split()[0]
    table = page.locator("table").first.inner_text()
    for name, dice in by_subject[shown]["dice"].items():
        assert f"{dice:.3f}" in table and name in table
        assert f"{by_subject[shown]['volume_ml'][name]['truth']:.1f}" in table


@pytest.mark.long
def test_errors_single_plane_dice_strip_and_next_case(server: Server, page: Page, hippocampus: str) -> None:
    core(server, "evaluate", hippocampus, str(server.data / "hippo"), "--subject", "hippocampus_001", "--keep")
    page.goto(f"{server.url}/review?model={hippocampus}&case=hippocampus_001")
    wait_until_ready(page)
    for width, height in ((1440, 900), (820, 900), (720, 450)):  # the last: a laptop's screen at 200 %
        page.set_viewport_size({"width": width, "height": height})
        expect(page.locator("canvas.pane")).to_have_count(3)
        settle(page)
        first = page.locator("canvas.pane").first.bounding_box()
        assert first is not None and first["y"] < 260 and first["height"] > 150, "the picture comes first"
    page.set_viewport_size({"width": 1440, "height": 1000})
    expect(page.locator("canvas.pane")).to_have_count(3)
    page.get_by_role("group", name="Planes").get_by_role("button", name="all").click()
    expect(page.locator("canvas.pane")).to_have_count(9)
    expect(page.get_by_role("button", name="false negative").first).to_be_visible()
    errors = pane(page, "axial", "errors")
    assert coloured_pixels(errors) > 0
    page.get_by_role("button", name="axial", exact=True).click()
    expect(page.locator("canvas.pane")).to_have_count(3)
    settle(page)
    tops = {round(box["y"]) for n in range(3) if (box := page.locator("canvas.pane").nth(n).bounding_box())}
    assert len(tops) == 1, "one plane: truth beside prediction beside errors"
    strip = page.get_by_role("slider", name="Dice per axial slice")
    box = strip.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 3, box["y"] + 20)
    assert voxel(page)[2] <= 1
    page.keyboard.press("n")
    page.wait_for_function("() => new URL(location).searchParams.get('case') !== 'hippocampus_001'")


@pytest.mark.long
def test_sweep_through_a_real_case_draws_each_slice_and_moves_no_byte(
    server: Server, page: Page, hippocampus: str
) -> None:
    traffic = Traffic.of(page)
    hold_rest_timer(page)
    page.goto(f"{server.url}/review?model={hippocampus}")
    wait_until_ready(page)
    truth = pane(page, "axial", "truth")
    truth.canvas.focus()
    page.keyboard.press("End")
    settle(page)
    last = truth.slice
    page.keyboard.press("Home")
    expect(page).to_have_url(at_slice(1))
    expect(page.locator(COMPLETE)).to_be_attached()
    rest_pointer(truth)
    traffic.forget()
    steps = sweep(page, truth, [-100] * last)
    assert last > 30 and [step.slice for step in steps] == list(range(1, last + 1))
    assert len({step.picture for step in steps}) == last, "no two slices look the same"
    assert (traffic.bytes, traffic.requests, waiting_reports(page)) == (0, [], 1)


@pytest.mark.long  # the same with small volumes: test_predict.py, test_quiz.py
def test_predict_and_quiz_with_the_same_run(
    server: Server, page: Page, hippocampus: str, test_data: Path, tmp_path: Path
) -> None:
    scan = test_data / "Task04_Hippocampus" / "imagesTr" / "hippocampus_001.nii.gz"
    page.goto(f"{server.url}/predict?model={hippocampus}")
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files(str(scan))
    page.get_by_role("button", name="Segment", exact=True).click(timeout=MINUTE_MS)
    save = page.get_by_role("button", name="Save the segmentation")
    expect(save).to_be_visible(timeout=3 * MINUTE_MS)
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "page.nii.gz")
    core(server, "predict", hippocampus, str(scan), "--out", str(tmp_path / "command.nii.gz"))
    assert (tmp_path / "page.nii.gz").read_bytes() == (tmp_path / "command.nii.gz").read_bytes()

    data = str(server.data / "hippo")
    core(server, "evaluate", hippocampus, data, "--split", "val", "--keep")
    player = Player(page)
    player.play(f"{server.url}/quiz?model={hippocampus}", 10)
    for number in range(1, 11):
        player.question(number)
        player.answer(number, "ArrowLeft", 2)
        player.next_question(number)
    expect(page.get_by_test_id("stMetric").first).to_contain_text("of 10")


@pytest.mark.long
def test_unknown_model_or_case_in_the_url_falls_back(server: Server, page: Page, hippocampus: str) -> None:
    page.goto(f"{server.url}/review?model=unknown&case=unknown")
    expect(page.get_by_role("heading", level=1)).to_have_text("Review")
    page.goto(f"{server.url}/review?model={hippocampus}&case=../../etc")
    wait_until_ready(page)


@pytest.mark.long
def test_next_case_after_a_segmented_one_shows_no_error(server: Server, page: Page, hippocampus: str) -> None:
    for kept in (server.checkpoints / hippocampus / "predictions").glob("*/*"):
        kept.unlink()
    page.goto(f"{server.url}/review?model={hippocampus}")
    page.get_by_role("button", name="Segment this case").click()
    expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible(timeout=2 * MINUTE_MS)
    first = page.get_by_role("option", selected=True, name="hippocampus").inner_text().split()[0]
    page.get_by_role("button", name=re.compile("^(Next|Previous)")).and_(page.locator(":enabled")).first.click()
    expect(page.get_by_role("option", selected=True, name="hippocampus")).not_to_contain_text(first)
    expect(page.get_by_role("button", name="Segment this case")).to_be_visible()
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
    page.goto(f"{server.url}/quiz?model={hippocampus}")
    expect(page.get_by_text("1 of them segmented")).to_be_visible()
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
