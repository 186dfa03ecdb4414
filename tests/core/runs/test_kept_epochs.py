"""Kept epochs of a run: listed in order, and a case segmented with each, resumed after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.datasets import open_dataset
from core.inference.ensemble_predictor import open_predictor
from core.runs.epoch_segmenter import segment_epochs
from core.runs.kept_epochs import epoch_predictions, kept_epochs
from tests.support.kept_epochs import keep_epochs
from tests.support.quiz_runs import QuizRun, use_copy

pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture
def run(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of the run, with two epochs beside the best and the last one."""
    folder = use_copy(quiz_run, tmp_path, monkeypatch) / quiz_run.run
    keep_epochs(folder)
    return folder


def test_states_are_in_the_order_of_training_and_each_is_listed_once(run: Path) -> None:
    best, last = (read_metadata(run / f"{name}.safetensors").progress["epoch"] for name in ("best", "last"))
    shutil.copy(run / "best.safetensors", run / f"epoch-{best:04d}.safetensors")
    found = kept_epochs(run)
    names = [epoch.name for epoch in found.epochs]
    assert names[:2] == ["epoch 1", "epoch 3"] and not found.damaged
    assert names[2:] == (
        [f"epoch {best}, best, last"] if best == last else [f"epoch {best}, best", f"epoch {last}, last"]
    )
    assert [epoch.epoch for epoch in found.epochs] == sorted({1, 3, best, last})
    assert found.epochs[2].checkpoint.name == f"epoch-{best:04d}.safetensors", "which is never replaced"


def test_a_damaged_file_is_named_and_a_run_without_kept_epochs_has_none(run: Path) -> None:
    (run / "epoch-0003.safetensors").write_bytes(b"no checkpoint")
    found = kept_epochs(run)
    assert "epoch 3" not in [epoch.name for epoch in found.epochs] and "epoch-0003" in found.damaged[0]
    for file in run.glob("epoch-*.safetensors"):
        file.unlink()
    assert kept_epochs(run).epochs == (), "best and last are no epochs that were kept"


def test_a_case_is_segmented_with_each_epoch_and_kept_beside_the_others(
    run: Path, quiz_run: QuizRun, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, root = open_dataset(quiz_run.data), run.parent
    subject = next(iter(read_metadata(run / "best.safetensors").split["val"]))
    assert main(["review", "epochs", run.name, subject, "--json", "--progress"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)["epochs"]
    assert [one["epoch"] for one in found][:2] == [1, 3] and printed.err.splitlines()[-1].startswith("progress ")
    dice = [one["mean_dice"] for one in found]
    assert dice[0] == 0 and dice[-1] > 0.3, "the first network says nothing, the last one has learned"
    epochs = kept_epochs(run).epochs
    kept = epoch_predictions(root, epochs, dataset, subject)
    assert [kept[epoch.name].epoch for epoch in epochs] == [one["epoch"] for one in found]
    assert len({prediction.file.parent for prediction in kept.values()}) == len(epochs)
    assert main(["review", "epochs", run.name, subject]) == 0
    shown = capsys.readouterr().out
    assert "Dice bright" in shown and "epoch 1 " in shown


def test_an_interrupted_segmentation_is_continued_and_outdated_ones_are_made_again(
    run: Path, quiz_run: QuizRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, root, epochs = open_dataset(quiz_run.data), run.parent, kept_epochs(run).epochs
    subject = next(iter(read_metadata(run / "best.safetensors").split["val"]))
    opened: list[str] = []

    def interrupted(paths: tuple[Path, ...]) -> object:
        opened.append(paths[0].stem)
        if opened == ["epoch-0001", "epoch-0003"]:
            raise KeyboardInterrupt
        return open_predictor(paths)

    monkeypatch.setattr("core.runs.epoch_segmenter.open_predictor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        segment_epochs(root, epochs, dataset, subject)
    made = epoch_predictions(root, epochs, dataset, subject)
    assert "epoch 1" in made and "epoch 3" not in made
    assert len(segment_epochs(root, epochs, dataset, subject)) == len(epochs)
    assert opened[2] == "epoch-0003" and opened.count("epoch-0001") == 1
    keep_epochs(run)
    shutil.copy(run / "epoch-0003.safetensors", run / "epoch-0001.safetensors")
    again = kept_epochs(run).epochs
    assert "epoch 1" not in epoch_predictions(root, again, dataset, subject)


def test_a_run_without_kept_epochs_and_an_unknown_case_are_clear_errors(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "epochs", run.name, "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err
    for file in run.glob("epoch-*.safetensors"):
        file.unlink()
    assert main(["review", "epochs", run.name, "nobody"]) == 1
    assert "expected kept epochs, found none; train with --keep-every N" in capsys.readouterr().err
