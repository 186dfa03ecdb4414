"""Runs of other roots on the Runs page: listed with their place, shown as far as they can be read."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest

from core.runs.other_roots import list_other_runs
from core.runs.store.pictures import add_picture
from tests.support.app_pages import open_page
from tests.support.run_folders import make_run
from tests.ui.server.test_routes import ask, request
from ui.server import routes


@pytest.fixture
def others(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Keys by name of two runs of other roots, of which the folder of one is gone; this root has a run too."""
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    make_run(checkpoints, "mine")
    make_run(tmp_path / "near", "reachable", epochs=4)
    make_run(tmp_path / "far", "lost", epochs=5)
    shutil.rmtree(tmp_path / "far")
    return {run.summary.name: run.key for run in list_other_runs(checkpoints).runs}


@pytest.mark.slow
def test_runs_of_other_roots_are_listed_and_shown_as_far_as_they_can_be_read(others: dict[str, str]) -> None:
    page = open_page("runs")
    assert "In 2 other folders" in [heading.value for heading in page.subheader]
    lost = open_page("runs", run=others["lost"])
    assert any("cannot be read on" in box.value and "mount that folder" in box.value for box in lost.info)
    labels = [button.label for button in lost.button]
    assert not {"Stop this run", "Resume", "Delete this run", "Review"} & set(labels)
    assert "5 / 10" in [metric.value for metric in lost.metric]
    near = open_page("runs", run=others["reachable"])
    labels = [button.label for button in near.button]
    assert "Delete this run" in labels and "Review" not in labels
    unknown = open_page("runs", run="nothing:such")
    assert any("found none with the ids" in box.value for box in unknown.warning)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs"), [("lost", 5), ("reachable", 4)])
def test_curves_of_a_run_of_another_root_are_served(others: dict[str, str], name: str, epochs: int) -> None:
    status, answer = ask(others[name])
    assert sorted({row[1] for row in answer["rows"]}) == list(range(1, epochs + 1))
    assert (status, answer["state"]) == (200, "finished")
    later = ask(others[name], f"after={answer['last']}")[1]
    assert later["rows"] == [] and later["last"] == answer["last"]
    table = bytes(routes.measurements(request(f"run={others[name]}")).body).decode()
    assert {row["epoch"] for row in csv.DictReader(io.StringIO(table))} == {str(n) for n in range(1, epochs + 1)}
    assert ask("nothing:such")[0] == 404


def test_pictures_of_a_run_of_another_root_are_served(others: dict[str, str], tmp_path: Path) -> None:
    (folder,) = (tmp_path / "near").glob("reachable*")
    add_picture(folder, 2, 7, b"png")
    ((_, step, _),) = ask(others["reachable"])[1]["pictures"]
    assert routes.picture(request(run_id=others["reachable"], step=step)).body == b"png"
