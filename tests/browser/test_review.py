"""Review in a real browser: the ready-made model on a fresh server, and a run that the test trains on real volumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, Server
from tests.support.quiz_player import Player
from tests.support.viewers import pane, settle, voxel, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE_MS = 60_000


def core(server: Server, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "core", *arguments, "--checkpoints", str(server.checkpoints)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_start_shows_the_ready_made_model_without_a_click(tmp_path: Path, page: Page) -> None:
    server = Server(tmp_path)
    try:
        page.goto(f"{server.url}/review")
        expect(page.get_by_text("Making the synthetic subject")).to_be_visible(timeout=MINUTE_MS)
        expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible(timeout=4 * MINUTE_MS)
        wait_until_ready(page)
        expect(page.locator("canvas.pane")).to_have_count(6)
        assert not page.get_by_text("synthetic", exact=False).first.is_hidden()
        page.keyboard.press("Escape")
        truth, prediction = pane(page, "axial", "truth"), pane(page, "axial", "prediction")
        assert coloured(truth) > 500 and coloured(prediction) > 500
        assert truth.picture() != prediction.picture() and truth.at == prediction.at
        assert truth.letters == "????", "the demo data's Analyze files state no orientation"
        before, picture = voxel(page), prediction.picture()
        prediction.canvas.hover()
        page.mouse.wheel(0, -100)
        settle(page)
        assert prediction.slice == truth.slice == before[2] + 1 and prediction.picture() != picture
        prediction.canvas.press("PageUp")
        settle(page)
        assert truth.slice == before[2] + 11
        expect(page.get_by_role("option")).to_contain_text("0.")
        page.wait_for_function("n => new URL(location).searchParams.get('at')?.endsWith(`,${n}`)", arg=before[2] + 12)
        page.reload()
        wait_until_ready(page)
        assert voxel(page)[2] == before[2] + 11, "the address keeps the place"
    finally:
        server.stop()


def coloured(shown: Any) -> int:
    """Pixels of a pane that are not grey."""
    return int(
        shown.canvas.evaluate(
            """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
            for (let p = 0; p < d.length; p += 4) {
                if (Math.max(d[p], d[p+1], d[p+2]) - Math.min(d[p], d[p+1], d[p+2]) > 30) n++;
            } return n; }"""
        )
    )


@pytest.fixture(scope="module")
def hippocampus(server: Server, test_data: Path) -> str:
    """A run of a few steps on a few of the real volumes."""
    (server.data / "hippo").symlink_to(test_data / "Task04_Hippocampus")
    return core(
        server, "train", str(server.data / "hippo"), "--preset", "quick", "--minutes", "0.4", "--name", "little",
        "--val-subjects", "hippocampus_001,hippocampus_004,hippocampus_006",
    ).splitlines()[0]  # fmt: skip


def test_a_run_on_real_volumes_is_segmented_scored_and_sorted(server: Server, page: Page, hippocampus: str) -> None:
    page.goto(f"{server.url}/review?model={hippocampus}")
    wait_until_ready(page)
    expect(page.get_by_role("option")).to_have_count(3)
    expect(page.locator("canvas.pane")).to_have_count(3)  # the truth alone: nothing is segmented yet
    assert pane(page, "axial", "truth").letters == "RLAP"
    page.get_by_role("button", name="Segment all 3 cases that wait").click()
    expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible(timeout=2 * MINUTE_MS)
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


def test_errors_outline_cases_and_the_strip(server: Server, page: Page, hippocampus: str) -> None:
    core(server, "evaluate", hippocampus, str(server.data / "hippo"), "--subject", "hippocampus_001", "--keep")
    page.goto(f"{server.url}/review?model={hippocampus}&case=hippocampus_001")
    wait_until_ready(page)
    page.get_by_role("button", name="errors", exact=True).click()
    expect(page.locator("canvas.pane")).to_have_count(9)
    expect(page.get_by_text("false negative")).to_be_visible()
    errors = pane(page, "axial", "errors")
    assert coloured(errors) > 0
    page.get_by_role("button", name="axial", exact=True).click()
    expect(page.locator("canvas.pane")).to_have_count(3)
    settle(page)
    tops = {round(box["y"]) for n in range(3) if (box := page.locator("canvas.pane").nth(n).bounding_box())}
    assert len(tops) == 1, "one plane: truth beside prediction beside errors"
    strip = page.get_by_role("img", name="Dice per axial slice")
    box = strip.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 3, box["y"] + 20)
    assert voxel(page)[2] <= 1
    page.keyboard.press("n")
    page.wait_for_function("() => new URL(location).searchParams.get('case') !== 'hippocampus_001'")


def test_predict_and_quiz_on_the_same_volumes(
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
        player.go_on(number)
    expect(page.get_by_test_id("stMetric").first).to_contain_text("of 10")


def test_an_unknown_model_or_case_in_the_address_falls_back(server: Server, page: Page, hippocampus: str) -> None:
    page.goto(f"{server.url}/review?model=nothing&case=nobody")
    expect(page.get_by_role("heading", level=1)).to_have_text("Review")
    page.goto(f"{server.url}/review?model={hippocampus}&case=../../etc")
    wait_until_ready(page)
