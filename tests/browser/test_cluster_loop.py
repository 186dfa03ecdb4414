"""The whole loop with a run that a real Slurm cluster trains: started on Train, watched live, its node lost; it goes
on, and is reviewed and played."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core import runs
from core.runs.store.engine_records import read_engine
from core.study.answers import read_answers
from tests.browser.conftest import Server
from tests.support.balls import write_balls
from tests.support.cluster.machines import started
from tests.support.cluster.slurm_cluster import SlurmCluster, missing_for_slurm
from tests.support.menus import choose_option
from tests.support.quiz_player import Player
from tests.support.run_chart import point_count, wait_for_more_points
from tests.support.train_page import press_start
from tests.support.watching import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.cluster]
MINUTE_MS = 60_000
SETTINGS = "threads~1~batch_size~1~sub_volume~16,16,16~device~cpu~learning_rate~0.001"
ENGINES = '[gpu-cluster]\nkind = "slurm"\nextra = ["--exclusive"]\npoll_s = 2\n'


@pytest.fixture
def cluster() -> Iterator[SlurmCluster]:
    with started(SlurmCluster, missing_for_slurm()) as cluster:
        yield cluster


@pytest.mark.long(240)
@pytest.mark.fault(72, "in the browser: node lost while a run is watched: it goes on, and is reviewed and played")
def test_run_on_a_cluster_from_train_to_quiz_although_its_node_is_lost(
    cluster: SlurmCluster, tmp_path: Path, page: Page
) -> None:
    write_balls(tmp_path / "data" / "balls", noise=60)  # errors are left however fast the machine trains
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "engines.toml").write_text(ENGINES)
    server = Server(tmp_path, demo_model=False, **cluster.environment)
    try:
        run = start_on_cluster(server, page)
        badge = page.get_by_test_id("stBadge").or_(page.locator(".stMarkdownBadge"))
        expect(badge.filter(has_text="running").first).to_be_visible(timeout=2 * MINUTE_MS)
        host = runs.get_run(server.checkpoints, run).state.host
        expect(page.get_by_text(f"on gpu-cluster, job {job_of(server, run)}, {host}").first).to_be_visible()
        wait_for_more_points(page, 0)
        wait_for_more_points(page, point_count(page))
        wait_until(lambda: (server.checkpoints / run / "last.safetensors").is_file(), 120, 0.2)
        before, lost_at = point_count(page), runs.get_run(server.checkpoints, run).state
        cluster.power_cut(host)
        wait_until(lambda: runs.get_run(server.checkpoints, run).state.state != "running", 120, 0.2)
        expect(badge.filter(has_text=re.compile("queued|unreachable|stalled|starting")).first).to_be_visible()
        cluster.boot(host)
        wait_until(lambda: runs.get_run(server.checkpoints, run).state.attempt == 2, 180, 0.5)
        expect(badge.filter(has_text="running").first).to_be_visible(timeout=2 * MINUTE_MS)
        wait_for_more_points(page, before)
        expect(badge.filter(has_text="finished").first).to_be_visible(timeout=4 * MINUTE_MS)
        finished = runs.get_run(server.checkpoints, run)
        assert finished.state.elapsed_s >= lost_at.elapsed_s and finished.state.best is not None
        assert "no heartbeat" not in finished.state.message
        page.get_by_role("button", name="Review", exact=True).click()
        expect(page).to_have_url(re.compile(rf"/review\?.*model={run}"))
        expect(page.get_by_text(re.compile(r"mean Dice [01]\.\d+, whole volumes, n = \d"))).to_be_visible()
        play(server, page, run)
    finally:
        server.stop()
        for summary in runs.list_runs(server.checkpoints):
            if summary.state.state not in runs.ENDED:
                runs.request_stop(server.checkpoints, summary.id, now=True)


def start_on_cluster(server: Server, page: Page) -> str:
    """Start a run of a minute on the cluster from the Train page; returns its id."""
    page.goto(f"{server.url}/train?data=balls&preset=quick&set={SETTINGS}")
    choose_option(page.get_by_label("Where", exact=True), "gpu-cluster (Slurm)")
    for label, value in (("Time budget (minutes)", "0.8"), ("Sub-volumes per epoch", "8"), ("Name of the run", "loop")):
        field = page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
    expect(page.get_by_text("--engine gpu-cluster").first).to_be_visible()
    press_start(page)
    expect(page.get_by_role("heading", name="loop")).to_be_visible(timeout=MINUTE_MS)
    (run,) = runs.list_runs(server.checkpoints)
    return run.id


def job_of(server: Server, run: str) -> str:
    record = read_engine(server.checkpoints / run)
    assert record is not None and record.job
    return record.job


def play(server: Server, page: Page, run: str) -> None:
    """Answer the first question of a game about the run."""
    player = Player(page)
    player.play(f"{server.url}/quiz?model={run}", 10)
    player.question(1)
    player.answer(1, "ArrowLeft", 3)
    (answer,) = read_answers(server.checkpoints)
    assert answer.model == run and answer.chosen_side == "left"
