"""A root of runs made by version 0.1 - run folder, checkpoints, index, answers - opens, and its run can be resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core import cli, runs
from core.checkpointing.checkpoint import load
from tests.support.balls import write_balls

FIXTURE = Path(__file__).parent / "fixtures" / "version_0_1"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text("utf-8"))
RUN: str = EXPECTED["run"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "balls")


@pytest.fixture
def root(checkpoints: Path, data: Path) -> Path:
    """A copy of the root, whose run points at data that exists here."""
    shutil.copytree(FIXTURE, checkpoints, dirs_exist_ok=True)
    config = checkpoints / RUN / "config.json"
    config.write_text(config.read_text("utf-8").replace("/data/balls", str(data)), "utf-8")
    return checkpoints


def reported(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert cli.main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def rounded(value: Any) -> Any:
    """The same with floats rounded to nine decimals: the interval of 0.1 was found by bisection."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 9) if isinstance(value, float) else value


def test_run_of_version_0_1_is_listed_with_state_notes_and_tags(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = reported(capsys, "runs", "show", RUN)
    assert {name: shown[name] for name in EXPECTED["shown"]} == EXPECTED["shown"]
    (run,) = runs.list_runs(root)
    assert (run.id, run.notes, run.tags) == (RUN, "a note", ("old",))


@pytest.mark.parametrize("index", ["unchanged", "rebuilt", "missing"])
def test_measurements_of_version_0_1_are_read(root: Path, index: str, capsys: pytest.CaptureFixture[str]) -> None:
    if index == "missing":
        (root / "index.sqlite").unlink()
    if index != "unchanged":
        reported(capsys, "runs", "rebuild")
    rows = [[r.epoch, r.step, r.name, r.value] for r in runs.metrics_after(root, RUN, 0, 10_000)]
    assert sorted(rows) == sorted(EXPECTED["metrics"])


def test_quiz_answers_of_version_0_1_are_counted_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rounded(reported(capsys, "quiz", "report", "all")) == rounded(EXPECTED["quiz"])
    reported(capsys, "runs", "rebuild")
    assert rounded(reported(capsys, "quiz", "report", "all")) == rounded(EXPECTED["quiz"])


@pytest.mark.slow
def test_checkpoint_of_version_0_1_has_the_same_scores(
    root: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reported(capsys, "evaluate", RUN, str(data), "--split", "val", "--device", "cpu")
    expected = EXPECTED["evaluation"]
    assert found["mean"]["dice"] == pytest.approx(expected["mean"]["dice"], abs=1e-3)
    for ours, theirs in zip(found["subjects"], expected["subjects"], strict=True):
        assert ours["id"] == theirs["id"] and ours["missed"] == theirs["missed"]
        for figure in ("dice", "hd95_mm", "asd_mm"):
            assert ours[figure] == pytest.approx(theirs[figure], abs=1e-3, nan_ok=True)


@pytest.mark.slow
def test_run_of_version_0_1_is_resumed_from_its_step(root: Path) -> None:
    from core.config import TrainConfig
    from core.runs.store import folder as files
    from core.training.experiment import train_run

    config = TrainConfig.from_json(json.loads((root / RUN / "config.json").read_text("utf-8")))
    before = load(root / RUN / files.LAST).metadata.progress["step"]
    steps: list[int] = []
    train_run(
        config,
        root / RUN,
        lambda event: steps.append(getattr(event, "step", 0)),
        should_stop=lambda: max(steps, default=0) >= before + 8,
        resume=True,
    )
    assert load(root / RUN / files.LAST).metadata.progress["step"] > before
