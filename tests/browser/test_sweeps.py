"""The page of a sweep in a real browser: its best trial, and all trials in parallel coordinates."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.support.balls import tiny, write_balls
from tests.support.sweeps import finish_trials, make_sweep

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("no_supervisor")]


@pytest.mark.long
def test_sweep_shows_all_trials_in_parallel_coordinates_and_opens_the_best(server: Server, page: Page) -> None:
    data = server.data / "balls-sweep"
    config = tiny(path=str(data if data.exists() else write_balls(data)))
    summary = finish_trials(server.checkpoints, make_sweep(server.checkpoints, config, trials=6), 6)
    best = summary.best
    assert best is not None and best.dice is not None
    page.goto(f"{server.url}/runs?group={summary.group.id}")
    expect(page.get_by_text(f"Trial {best.number} of 6 finished")).to_be_visible()
    chart = page.locator(".st-key-sweep-parallel .js-plotly-plot")
    lines = chart.locator(".scatterlayer .trace")
    expect(lines).to_have_count(6)
    for title in ("Learning rate", "Loss", "Weight of false positives", "Dice"):
        expect(chart.get_by_text(title, exact=True).first).to_be_visible()
    widths = [float(re.findall(r"stroke-width: ([\d.]+)", str(line.get_attribute("style")))[0])
              for line in chart.locator(".scatterlayer .trace path.js-line").all()]  # fmt: skip
    assert widths == sorted(widths) and widths[0] < widths[-1], "the lines of good trials are thicker, and on top"
    expect(chart.get_by_text(f"{best.dice:.3f}", exact=True).first).to_be_visible()
    history = page.locator(".st-key-sweep-history .xaxislayer-above .xtick")
    assert history.all_text_contents() == [str(number) for number in range(1, 7)], "each trial has one tick"
    page.get_by_role("button", name="Open its run").click()
    expect(page).to_have_url(re.compile(rf"[?&]run={best.member.run}"))
    expect(page.get_by_role("heading", name=f"search trial {best.number}")).to_be_visible()
