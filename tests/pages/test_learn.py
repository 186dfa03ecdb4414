"""The Learn page without a browser: before the demo subject exists, with it, with and without a model, failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.checkpointing.checkpoint import load, save
from core.checkpointing.metadata import REGIONS
from core.processes import kill_tree
from core.regions import Region, RegionSpace
from tests.support.app_pages import button, component_data, hide_demo_model, open_page, run_page, texts
from tests.support.background_jobs import poll
from tests.support.learn_data import ISEG_LABELS, link_demo_subject, small_model
from tests.support.watching import processes_of
from ui.learn import jobs as learn_jobs
from ui.learn.layout import chapter_texts
from ui.shared import demo_jobs
from ui.shared.jobs import Job

pytestmark = pytest.mark.slow  # the demo subject is made once
FIGURES = ("counts", "block", "draws", "masks", "shares", "stages", "grid")  # a key of each figure's data
WITHOUT_SUBJECT = {"block", "masks", "shares", "stages"}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and no ready-made model."""
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(root))
    hide_demo_model(monkeypatch)
    return root


def figures(app: AppTest) -> dict[str, Any]:
    """Data of the figures on the page."""
    shown = {key: component_data(app, key) for key in FIGURES}

    return {key: value for key, value in shown.items() if value}


def wait_for_figure(app: AppTest, key: str) -> AppTest:
    """Run the page until a figure is there, as its progress bar does."""
    poll(lambda: figures(run_page(app)), lambda shown: key in shown)
    return app


@pytest.mark.long
def test_figures_without_a_subject_are_shown_while_it_is_made(
    data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr("ui.shared.jobs.start", lambda folder, arguments: started.extend(arguments))
    jobs = iter([Job("none"), Job("running")])
    monkeypatch.setattr("ui.shared.demo_jobs.observe_demo_subject", lambda _: next(jobs, Job("running")))
    app = open_page("learn")
    assert started[0] == "demo" and "--only=subject-1" in started
    assert [h.value for h in app.header] == [
        f"{n}  {title}" for n, (title, _) in enumerate(chapter_texts().values(), start=1)
    ]
    assert texts(app).count("This figure needs the synthetic subject") == 2
    shown = figures(wait_for_figure(app, "stages"))
    assert set(shown) == WITHOUT_SUBJECT
    assert shown["block"]["block"] is None and len(shown["masks"]["masks"]) == 1
    assert shown["stages"]["maps"] is None
    assert [s["channels"] for s in shown["stages"]["stages"]] == [2, 64, 128, 256, 512, 256, 128, 64, 4, 4]
    assert "19,074,724 parameters" in texts(app), "the article's network"
    link_demo_subject(tmp_path_factory, data)
    monkeypatch.setattr("ui.shared.demo_jobs.observe_demo_subject", lambda _: Job("done"))
    assert {"counts", "grid"} <= set(figures(run_page(app)))


@pytest.mark.long
def test_without_a_model_the_page_shows_the_command_to_train_one(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link_demo_subject(tmp_path_factory, data)
    app = wait_for_figure(wait_for_figure(open_page("learn"), "draws"), "stages")
    assert set(figures(app)) == set(FIGURES)
    assert "needs the synthetic subject" not in texts(app)
    assert "% from T1" in texts(app) and "% from both are right" in texts(app)
    assert "the ready-made one is missing" in texts(app)
    assert app.code[0].value == "python -m core train demo --preset quick"
    drawn = figures(app)["draws"]
    assert [s["name"] for s in drawn["sizes"]] == ["64 × 64 × 64", "128 × 128 × 64, the article's"]
    assert [rule["foreground"] for rule in drawn["rules"]] == [0.0, 0.33, 0.9]
    for size, of_size in zip(([64, 64, 64], [128, 128, 64]), drawn["draws"], strict=True):
        assert [(d["sub_volume"], d["foreground"]) for d in of_size] == [(size, 0.0), (size, 0.33), (size, 0.9)]
    disc, *class_masks = figures(app)["masks"]["masks"]
    assert disc["name"] == "round" and len(class_masks) == 3


@pytest.mark.long
def test_feature_maps_of_a_model_are_computed_and_shown(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link_demo_subject(tmp_path_factory, data)
    small_model(checkpoints, "my <b>net</b>")
    app = wait_for_figure(open_page("learn"), "stages")
    assert figures(app)["stages"]["maps"] is None and len(figures(app)["stages"]["stages"]) == 8
    poll(lambda: figures(run_page(app))["stages"]["maps"])
    shown = figures(app)["stages"]
    assert shown["maps"].startswith("api/volumes/")
    assert [c["name"] for c in shown["classes"]][1:] == ["CSF", "GM", "WM"]
    assert [(s["name"], len(s["maps"])) for s in shown["stages"]] == [
        ("input", 2),
        ("encoder-0", 4),
        ("encoder-1", 8),
        ("bottleneck", 16),
        ("decoder-1", 8),
        ("decoder-0", 4),
        ("logits", 4),
        ("softmax", 4),
    ]
    assert "The model has not learned from this subject." in texts(app)
    assert "my <b>net</b>: unet3d" in texts(app)
    assert any("my \\<b\\>net" in c.value for c in app.caption), "the name is escaped"


def test_model_chosen_on_another_page_for_other_data_is_replaced(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_demo_subject(tmp_path_factory, data)
    model = small_model(checkpoints)
    monkeypatch.setattr("ui.shared.jobs.start", lambda folder, arguments: None)
    app = open_page("learn", session={"model": "another-model"})
    assert app.selectbox(key="model").value == model.parent.name


def test_output_of_a_network_of_regions_is_described_as_sigmoids(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_demo_subject(tmp_path_factory, data)
    path = small_model(checkpoints)
    monkeypatch.setattr("ui.shared.jobs.start", lambda folder, arguments: None)
    assert "softmax" in texts(open_page("learn")) and "sigmoid" not in texts(open_page("learn"))
    stored = load(path)
    regions = RegionSpace((Region("brain", ("GM", "WM"), "GM"), Region("WM", ("WM",), "WM")), ISEG_LABELS.names)
    metadata = replace(
        stored.metadata,
        config=stored.metadata.train_config.with_values({"targets": "regions"}).to_json(),
        dataset={**stored.metadata.dataset, REGIONS: regions.to_json()},
    )
    save(path, replace(stored, metadata=metadata))
    app = open_page("learn")
    assert "sigmoid" in texts(app) and "softmax" not in texts(app)


def test_failure_to_make_the_subject_is_shown_and_can_be_retried(data: Path) -> None:
    (data / "demo").mkdir()
    (data / "demo" / "holiday.jpg").write_bytes(b"x")
    app = open_page("learn")
    poll(lambda: list(run_page(app).error))
    assert "holiday.jpg" in app.error[0].value.replace("\\", "")
    assert set(figures(wait_for_figure(app, "stages"))) == WITHOUT_SUBJECT
    (data / "demo" / "holiday.jpg").unlink()
    button(app, "Try again").click()
    try:
        assert not run_page(app).error and demo_jobs.observe_demo_subject("subject-1").state == "running"
    finally:  # it takes many seconds to make the subject
        for process in processes_of(data / "demo"):
            kill_tree(process.pid)


@pytest.mark.long
def test_unreadable_model_is_left_out_and_failed_feature_maps_give_the_reason(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_demo_subject(tmp_path_factory, data)
    monkeypatch.setattr("ui.shared.jobs.start", lambda folder, arguments: None)
    small_model(checkpoints, "broken").write_bytes(b"nothing")
    assert "the ready-made one is missing" in texts(open_page("learn"))
    small_model(checkpoints, "whole")
    monkeypatch.setattr(learn_jobs, "observe_features", lambda folder: Job("failed", message="no *memory* left"))
    app = open_page("learn")
    assert any("no \\*memory\\* left" in e.value for e in app.error)
