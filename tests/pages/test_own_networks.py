"""Pages with ten runs, one of which has a network of the user's whose file is gone, changed or broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.runs.store.state import read_state, write_state
from tests.support.app_pages import button_labels, click, component_data, open_page, texts
from tests.support.own_networks import NET, forget_networks, run_of_network, write_network
from tests.support.run_folders import make_run

GONE = "the file of the network Net is gone"
CHANGED = "the code of the network Net has changed since it was trained"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the network."""
    forget_networks(monkeypatch, tmp_path / "config")
    return write_network(tmp_path)


@pytest.fixture
def run(empty_app: Path, checkpoints: Path, file: Path) -> str:
    """The run of the network, which was stopped."""
    for number in range(9):
        make_run(checkpoints, f"other-{number}")
    run = run_of_network(checkpoints, "own")
    write_state(checkpoints / run, read_state(checkpoints / run).ended("stopped", ""))
    return run


def test_runs_are_listed_and_the_broken_one_says_why(checkpoints: Path, file: Path, run: str) -> None:
    assert "Net" not in texts(open_page("runs", run=run))
    file.unlink()
    app = open_page("runs", run=run)
    assert GONE in texts(app) and str(file) in texts(app)
    assert len(component_data(app, "selected")["rows"]) == 10
    assert GONE in texts(click(app, "Resume")) and read_state(checkpoints / run).state == "stopped"
    assert GONE not in texts(open_page("runs", run="other-3"))


def test_changed_code_is_resumed_on_request(checkpoints: Path, file: Path, run: str) -> None:
    file.write_text(NET + "# other\n")
    app = open_page("runs", run=run)
    assert CHANGED in texts(app) and "Resume all the same" not in button_labels(app)
    app = click(app, "Resume")
    assert "The code of this run has changed since it began" in texts(app)
    click(app, "Resume on these files")
    assert read_state(checkpoints / run).state == "queued"


@pytest.mark.parametrize("page", ["review", "predict", "quiz"])
def test_pages_of_models_name_the_file(file: Path, run: str, page: str) -> None:
    file.unlink()
    assert GONE in texts(open_page(page, model=run))


@pytest.mark.usefixtures("known_cost")
def test_train_names_the_file_and_takes_names_of_the_library(file: Path, empty_app: Path) -> None:
    file.unlink()
    assert GONE in texts(open_page("train", preset="fast", set="model~Net"))
    app = open_page("train", preset="fast", set="model~DenseNet2")
    assert next(box for box in app.selectbox if box.label == "Network").value == "densenet_late"
