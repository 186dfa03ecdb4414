"""``ensemble``, and ``predict``, ``evaluate`` and ``export`` with its result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from nibabel.loadsave import load as read

from core.checkpointing.checkpoint import load, save
from core.checkpointing.file_header import store_postprocessing
from core.cli import main
from core.imaging.postprocessing import ClassRule, Postprocessing
from core.runs.launch import create_run
from core.runs.predictions import read_predictions
from tests.support.balls import tiny

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.fixture
def two_runs(ball_run: BallRun, run_id: str, checkpoints: Path) -> tuple[str, str]:
    """Runs named balls and noisy; the second one has other weights and holds out other subjects."""
    folder = create_run(checkpoints, tiny(path=str(ball_run.data)), "noisy")
    checkpoint = load(ball_run.checkpoint)
    generator = torch.Generator().manual_seed(0)
    for tensor in checkpoint.average.values():
        tensor += 0.3 * tensor.std(correction=0) * torch.randn(tensor.shape, generator=generator)
    split = checkpoint.metadata.split
    val = [split["val"][0], split["train"][0]]
    train = [id for id in (*split["train"], *split["val"]) if id not in val]
    checkpoint.metadata = replace(checkpoint.metadata, split={"train": train, "val": val, "test": []})
    save(folder / "last.safetensors", checkpoint)
    return run_id, folder.name


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.slow
def test_named_ensemble_predicts_as_the_runs_joined_by_plus(
    ball_run: BallRun, two_runs: tuple[str, str], checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ensemble", *two_runs, "--name", "pair", "--json"]) == 0
    made = report(capsys)
    assert made["out"] == str(checkpoints / "ensembles" / "pair.safetensors")
    held_out = [id for id in load(ball_run.checkpoint).metadata.split["val"] if id in made["split"]["val"]]
    assert made["split"]["val"] == held_out and len(held_out) == 1, "the other one was trained on by the second run"
    image = str(ball_run.data / "imagesTr" / "ball_1.nii.gz")
    for model, name in (("pair", "one"), ("balls+noisy", "two"), (made["out"], "three")):
        maps = ["--out", str(tmp_path / f"{name}.nii"), "--disagreement", str(tmp_path / f"{name}-map.nii")]
        assert main(["predict", model, image, *maps, "--json"]) == 0
        assert [member["name"] for member in report(capsys)["members"]] == list(two_runs)
    for kind in ("", "-map"):
        contents = {(tmp_path / f"{name}{kind}.nii").read_bytes() for name in ("one", "two", "three")}
        assert len(contents) == 1
    store_postprocessing(
        checkpoints / two_runs[0] / "last.safetensors", Postprocessing({"bright": ClassRule(True)}), {}
    )
    out = ["--out", str(tmp_path / "again.nii"), "--json"]
    assert main(["predict", "balls+noisy", image, *out]) == 0
    assert "note: the postprocessing of the networks differs and is left out" in capsys.readouterr().err
    assert main(["predict", "pair", image, *out]) == 0
    assert main(["predict", "balls+noisy", image, *out, "--no-postprocessing"]) == 0
    assert "left out" not in capsys.readouterr().err
    values = set(np.unique(np.asarray(read(tmp_path / "one-map.nii").dataobj)).tolist())  # type: ignore[attr-defined]
    assert values == {0, 100}, "two networks agree or do not"


@pytest.mark.slow
def test_ensemble_is_scored_on_subjects_that_no_member_has_seen_and_kept_for_review(
    ball_run: BallRun, two_runs: tuple[str, str], checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ensemble", *two_runs]) == 0
    assert "held out by all of them" in capsys.readouterr().out
    path = checkpoints / "ensembles" / "ensemble-1.safetensors"
    assert main(["evaluate", "ensemble-1", str(ball_run.data), "--keep", "--json"]) == 0
    scored = report(capsys)
    assert len(scored["subjects"]) == 1 and scored["mean"]["dice"]["bright"] > 0.6
    kept = read_predictions(checkpoints, path, ball_run.data)
    (prediction,) = kept.values()
    assert not prediction.stale and prediction.disagreement is not None and prediction.disagreement.is_file()
    assert main(["evaluate", "balls+noisy", str(ball_run.data), "--keep"]) == 1
    assert "--keep: expected one model, got 2" in capsys.readouterr().err
    # The file is written again with one member changed: what was kept is of another state.
    path.unlink()
    shutil.copy(ball_run.checkpoint, checkpoints / two_runs[1] / "last.safetensors")
    changed = load(checkpoints / two_runs[1] / "last.safetensors")
    changed.metadata.progress["epoch"] = 3
    save(checkpoints / two_runs[1] / "last.safetensors", changed)
    assert main(["ensemble", *two_runs, "--name", "ensemble-1"]) == 0
    assert all(p.stale for p in read_predictions(checkpoints, path, ball_run.data).values())


@pytest.mark.slow
def test_exported_ensemble_names_no_folder_and_predicts_the_same(
    ball_run: BallRun, two_runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "pair.safetensors", tmp_path / "shared.safetensors"
    assert main(["ensemble", *two_runs, "--out", str(source)]) == 0
    assert main(["export", str(source), "--out", str(out)]) == 0
    assert str(ball_run.data).encode() in source.read_bytes()
    assert str(ball_run.data.parent).encode() not in out.read_bytes()
    image = str(ball_run.data / "imagesTr" / "ball_1.nii.gz")
    for model, name in ((source, "one.nii"), (out, "other.nii")):
        assert main(["predict", str(model), image, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.nii").read_bytes() == (tmp_path / "other.nii").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["balls"], "expected 2 to 100 networks, got 1"),
        (["balls", "balls"], "twice; name each once"),
        (["balls", "noisy", "--name", "../elsewhere"], "--name: expected letters, digits"),
        (["balls", "nobody"], "expected a checkpoint file or a run"),
        (["balls", "noisy", "--out", "model.pt"], "expected a name ending in .safetensors"),
    ],
)
def test_error_is_one_line_and_nothing_is_written(
    two_runs: tuple[str, str],
    checkpoints: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(["ensemble", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not list(checkpoints.glob("ensembles/*"))


def test_taken_name_is_refused(two_runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensemble", *two_runs, "--name", two_runs[0]]) == 1
    assert "--name: expected a name that no run has" in capsys.readouterr().err
    assert main(["ensemble", *two_runs, "--name", "pair"]) == 0
    assert main(["ensemble", *two_runs, "--name", "pair"]) == 1
    assert "expected a new name" in capsys.readouterr().err


def test_disagreement_of_one_network_is_refused(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(ball_run.data / "imagesTr" / "ball_1.nii.gz")
    maps = ["--out", str(tmp_path / "seg.nii"), "--disagreement", str(tmp_path / "map.nii")]
    assert main(["predict", run_id, image, *maps]) == 1
    assert "expected an ensemble, got one network" in capsys.readouterr().err
    assert not (tmp_path / "seg.nii").exists()
