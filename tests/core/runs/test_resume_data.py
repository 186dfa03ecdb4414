"""Resuming a run whose data has changed or moved: refused at once by headers, accepted on request."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from core import cli, runs
from core.checkpointing.metadata import ACCEPT_DATA
from core.config import TrainConfig
from core.datasets.data_record import ChangedDataError
from core.errors import DatasetError
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.state import RunState, read_state, write_state
from tests.support.balls import tiny
from tests.support.volume_files import load

pytestmark = pytest.mark.usefixtures("no_supervisor")

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.fixture
def data(ball_run: BallRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ball_run.data, tmp_path / "data"))


@pytest.fixture
def run(ball_run: BallRun, checkpoints: Path, data: Path) -> Path:
    """The folder of a stopped run with a checkpoint and the record of its data."""
    folder = create_run(checkpoints, tiny(path=str(data)), "balls", foreground=True)
    for name in ("last.safetensors", "data.json"):
        shutil.copy(ball_run.checkpoint.parent / name, folder / name)
    write_state(folder, _stopped(folder))
    return folder


def _stopped(folder: Path) -> RunState:
    return replace(read_state(folder), state="stopped", shim_pid=None)


def double_affines(data: Path) -> None:
    for path in (*(data / "imagesTr").iterdir(), *(data / "labelsTr").iterdir()):
        image = load(path)
        affine = image.affine * np.array([2, 2, 2, 1])[:, None]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def test_unchanged_data_is_queued(run: Path, checkpoints: Path) -> None:
    runs.resume(checkpoints, run.name)
    assert read_state(run).state == "queued" and not (run / ACCEPT_DATA).exists()


def test_changed_headers_are_refused_by_the_command_and_accepted_with_force(
    run: Path, checkpoints: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double_affines(data)
    assert cli.main(["runs", "resume", "balls"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: expected the data that the run began with") and error.count("\n") == 1
    assert "voxel size 1 x 1 x 1.5 mm to 2 x 2 x 3 mm" in error and "runs resume RUN --force" in error
    assert read_state(run).state == "stopped"
    assert cli.main(["runs", "resume", "balls", "--force"]) == 0
    assert read_state(run).state == "queued" and (run / ACCEPT_DATA).exists()


def test_acceptance_holds_for_one_resumption(run: Path, checkpoints: Path, data: Path) -> None:
    runs.resume(checkpoints, run.name, force=True)
    write_state(run, _stopped(run))
    runs.resume(checkpoints, run.name)
    assert not (run / ACCEPT_DATA).exists()


def test_moved_data_is_found_where_the_command_says(run: Path, checkpoints: Path, data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(data, tmp_path / "moved"))
    with pytest.raises(DatasetError, match="found nothing there"):
        runs.resume(checkpoints, run.name)
    assert cli.main(["runs", "resume", run.name, "--data", str(moved)]) == 0
    assert files.read_config(run).data.path == str(moved) and read_state(run).state == "queued"


def test_other_data_is_not_taken_for_moved_data(run: Path, checkpoints: Path, data: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    double_affines(other)
    with pytest.raises(ChangedDataError):
        runs.resume(checkpoints, run.name, data=str(other))
    assert files.read_config(run).data.path == str(data) and read_state(run).state == "stopped"


def test_run_without_record_or_checkpoint_is_queued(run: Path, checkpoints: Path, data: Path) -> None:
    double_affines(data)
    (run / "data.json").rename(run / "aside.json")
    runs.resume(checkpoints, run.name)
    write_state(run, _stopped(run))
    (run / "aside.json").rename(run / "data.json")
    (run / "last.safetensors").unlink()
    runs.resume(checkpoints, run.name)
    assert read_state(run).state == "queued", "it starts anew"


def test_selected_classes_and_modalities_are_compared(
    run: Path, checkpoints: Path, data: Path, ball_run: BallRun
) -> None:
    config: TrainConfig = files.read_config(run).with_values({"modalities": ("M0",), "classes": ("bright", "dark")})
    files.write_json(run / files.CONFIG, config.to_json())
    runs.resume(checkpoints, run.name)
    assert read_state(run).state == "queued"
