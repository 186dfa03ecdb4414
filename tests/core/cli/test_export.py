"""``export``: a small file with the same predictions and without paths of this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from core.checkpointing.checkpoint import load, save
from core.cli import main

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.mark.slow
def test_exported_model_holds_the_average_weights_and_predicts_the_same(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.safetensors"
    assert main(["export", run_id, "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    original, exported = load(ball_run.checkpoint, training_state=True), load(out, training_state=True)
    assert original.average and original.optimizer and not exported.average and not exported.optimizer
    assert all(torch.equal(exported.model[name], original.average[name]) for name in original.average)
    assert report["bytes"] == out.stat().st_size < 0.5 * ball_run.checkpoint.stat().st_size
    assert (report["modalities"], report["classes"], report["epoch"]) == (["M0"], ["bright", "dark"], 16)
    image = str(ball_run.data / "imagesTr" / "ball_1.nii.gz")
    for model, name in ((run_id, "one.nii"), (str(out), "other.nii")):
        assert main(["predict", model, image, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.nii").read_bytes() == (tmp_path / "other.nii").read_bytes()


def test_exported_metadata_is_complete_except_for_paths(ball_run: BallRun, run_id: str, tmp_path: Path) -> None:
    source = load(ball_run.checkpoint)
    about = source.metadata
    about.config["run"]["init_from"] = "/home/somebody/runs/first.safetensors"
    save(tmp_path / "source.safetensors", replace(source, metadata=about))
    out = tmp_path / "model.safetensors"
    assert main(["export", str(tmp_path / "source.safetensors"), "--out", str(out)]) == 0
    shared = load(out).metadata
    assert str(ball_run.data.parent).encode() not in out.read_bytes() and b"somebody" not in out.read_bytes()
    assert shared.dataset == {k: v for k, v in about.dataset.items() if k != "path"}
    for name in ("labels", "modalities", "spacing_mm", "progress", "inference", "split", "version"):
        assert getattr(shared, name) == getattr(about, name)
    config = shared.train_config.values()
    assert config.pop("path") == "data" and config.pop("init_from") == "first.safetensors"
    assert config.items() <= about.train_config.values().items()


@pytest.mark.parametrize(
    ("model", "out", "message"),
    [
        ("RUN", "model.txt", "expected a name ending in .safetensors"),
        ("RUN", "no/where.safetensors", "expected a folder that exists"),
        ("RUN", "SOURCE", "expected another file to write to than the checkpoint itself"),
        ("nothing", "model.safetensors", "expected a checkpoint file or a run"),
    ],
)
def test_error_is_one_line_and_nothing_is_written(
    run_id: str,
    checkpoints: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    out: str,
    message: str,
) -> None:
    source = checkpoints / run_id / "last.safetensors"
    before = source.read_bytes()
    target = str(source) if out == "SOURCE" else str(tmp_path / out)
    assert main(["export", run_id if model == "RUN" else model, "--out", target]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and line.startswith("error: ") and message in line
    assert source.read_bytes() == before and not (tmp_path / "model.safetensors").exists()
