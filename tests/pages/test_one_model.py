"""Models on the Runs page without a browser: all folds combined to one, and postprocessing by held-out subjects."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from core import runs
from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.cli import main
from core.datasets.splits import split_subjects
from core.labels import LabelSpace
from core.runs import groups
from core.runs.models import find_models
from core.runs.store.groups import Group
from core.runs.store.process import process_identity
from tests.core.runs.test_groups import set_state
from tests.support.app_pages import button_labels, click, open_page, texts
from tests.support.balls import CLASSES, tiny, write_balls
from ui.runs import model_jobs
from ui.shared import jobs

pytestmark = [pytest.mark.usefixtures("empty_app", "known_cost"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def commands_at_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs are commands of this process, which end before the page goes on."""
    started: list[str] = []

    def start(folder: Path, arguments: Sequence[str]) -> None:
        started.append(arguments[0])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            assert main(list(arguments)) == 0
        (folder / jobs.STDOUT).write_text(out.getvalue())

    monkeypatch.setattr("ui.shared.jobs.start", start)
    return started


@pytest.fixture
def group(checkpoints: Path, empty_app: Path) -> Group:
    """Three finished folds with untrained networks."""
    made = groups.submit_folds(checkpoints, tiny(path=str(write_balls(empty_app / "balls"))), "net")
    for run in made.runs:
        finish(checkpoints, run)
    return made


def finish(root: Path, run: str) -> Path:
    """Write the checkpoint of an untrained network; returns its file."""
    import torch

    from core.checkpointing.checkpoint import Checkpoint, build_network, save

    config = runs.get_run(root, run).config
    split = split_subjects([f"ball_{n}" for n in range(6)], config.split)
    named = {"train": list(split.train), "val": list(split.val), "test": list(split.test)}
    labels, dataset = LabelSpace.from_raw(dict(enumerate(CLASSES))), {"path": config.data.path, "name": "Balls"}
    described = CheckpointMetadata(
        config.to_json(), labels.to_json(), ("M0",), None, progress={"epoch": 6}, dataset=dataset, split=named
    )
    torch.manual_seed(config.split.fold)
    path = root / run / "best.safetensors"
    save(path, Checkpoint(described, build_network(described).state_dict()))
    set_state(root, run, "finished")
    return path


def test_all_folds_become_one_model_that_other_pages_have(checkpoints: Path, group: Group) -> None:
    app = open_page("runs", group=group.id)
    assert "One model" in texts(app) and "Review" not in button_labels(app)
    app = click(app, "Combine 3 networks")
    file = model_jobs.combined_file(group.id)
    assert find_models(checkpoints, f"ensembles/{group.id}") == (file,)
    assert [m["name"] for m in read_metadata(file).inference["members"]] == list(group.runs)
    assert f"**{group.id}**, 3 networks" in texts(app)
    assert {"Review", "Predict", "Quiz"} <= {*button_labels(app)}
    assert not any(label.startswith("Combine") for label in button_labels(app))
    assert f"export ensembles/{group.id} --out" in "".join(code.value for code in app.code)


def test_run_that_changed_since_asks_for_another_combination(checkpoints: Path, group: Group) -> None:
    click(open_page("runs", group=group.id), "Combine 3 networks")
    written = model_jobs.combined_file(group.id).stat().st_mtime
    os.utime(finish(checkpoints, group.runs[1]), (written + 10, written + 10))
    app = open_page("runs", group=group.id)
    assert "Combine 3 networks again: runs have changed since" in button_labels(app)
    assert "Review" not in button_labels(app), "the old one is not offered"


def test_nothing_is_combined_before_two_folds_have_ended(checkpoints: Path, group: Group) -> None:
    set_state(checkpoints, group.runs[0], "running", pid=os.getpid(), pid_start=process_identity(os.getpid()))
    assert "One model" not in texts(open_page("runs", group=group.id))
    set_state(checkpoints, group.runs[0], "finished")
    for run in group.runs[:2]:
        (checkpoints / run / "best.safetensors").unlink()
    assert "One model" not in texts(open_page("runs", group=group.id)), "one network is no ensemble"


def test_postprocessing_of_a_run_is_chosen_by_its_held_out_subjects(
    checkpoints: Path, group: Group, commands_at_once: list[str]
) -> None:
    app = open_page("runs", run=group.runs[0])
    assert "nothing was chosen yet" in texts(app)
    app = click(app, "Choose by held-out subjects")
    assert commands_at_once == ["postprocess"]
    assert "Decided by 2 held-out subjects, on whole volumes; these are few." in texts(app)
    checkpoint = checkpoints / group.runs[0] / "best.safetensors"
    report = model_jobs.chosen(checkpoint)
    assert report is not None
    table = "".join(str(element.proto.body) for element in app.get("html"))
    for name in CLASSES[1:]:
        rule = read_metadata(checkpoint).postprocessing.rules.get(name)
        assert f"</i>{name}</th>" in table and (rule.text if rule else "unchanged") in table
        assert f">{report['dice'][name]['before']:.3f}</td>" in table
    newer = checkpoint.stat().st_mtime + 10
    os.utime(finish(checkpoints, group.runs[0]), (newer, newer))
    assert model_jobs.chosen(checkpoint) is None, "that was another network"
    assert "nothing was chosen yet" in texts(open_page("runs", run=group.runs[0]))


def test_network_trained_on_all_subjects_is_decided_by_a_group(checkpoints: Path, group: Group) -> None:
    refit = runs.submit(checkpoints, groups.refit_config(group), "net refit")
    finish(checkpoints, refit)
    app = open_page("runs", run=refit)
    box = next(box for box in app.selectbox if box.label == "Decide by")
    assert box.options == ["net"]
    app = click(app, "Choose by held-out subjects")
    assert "Decided by 6 held-out subjects, on whole volumes." in texts(app)
    report = json.loads((model_jobs._choosing(checkpoints / refit / "best.safetensors") / jobs.STDOUT).read_text())
    assert report["subjects"] == 6
    groups.delete_group(checkpoints, group, keep_runs=True)
    app = open_page("runs", run=refit)
    assert "There is none of this data yet" in texts(app)
    assert [b.disabled for b in app.button if b.label.startswith("Choose ")] == [True]


def test_run_that_trains_keeps_its_postprocessing(checkpoints: Path, group: Group) -> None:
    set_state(checkpoints, group.runs[0], "running", pid=os.getpid(), pid_start=process_identity(os.getpid()))
    app = open_page("runs", run=group.runs[0])
    assert "It can be chosen once the run has ended" in texts(app)
    assert not any(re.match("Choose (again|by)", label) for label in button_labels(app))
