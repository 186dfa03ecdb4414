"""The data of a run: prepared subjects are opened again with equal weights, and leaks across the split are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from core.checkpointing.checkpoint import load
from core.datasets.prepared_cache import Preparation, PreparedCache
from core.events import Event, Note
from core.paths import DEMO
from core.sampling.streaming import StreamedSubjects, SubjectStore
from core.training import run_data
from core.training.experiment import train_run
from core.training.run_data import RunData, RunInputs
from tests.support.balls import tiny, write_balls


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", 6)


def train(root: Path, name: str, **values: Any) -> tuple[bytes, list[str]]:
    """Weights of a deterministic run in a root, and its notes."""
    (root / name).mkdir(parents=True)
    events: list[Event] = []
    config = tiny(epochs=1, samples_train=4, deterministic=True, **values)
    train_run(config, root / name, events.append)
    weights = load(root / name / "last.safetensors").weights
    content = b"".join(weights[key].numpy().tobytes() for key in sorted(weights))
    return content, [event.text for event in events if isinstance(event, Note)]


def recorded_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[object]:
    """Objects whose method was called, in order, from now on."""
    calls: list[object] = []
    method = getattr(owner, name)

    def call(self: object, *args: Any) -> Any:
        calls.append(self)
        return method(self, *args)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_options_of_reading_hold_for_the_demo_data_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_data, "ensure_first_subjects", lambda *_, **__: data)
    config = tiny(path=DEMO, ignore="dark")
    opened = RunData.open(RunInputs(config, tmp_path / "run", lambda event: None, lambda: False, False), None)
    assert opened.labels.names == ("background", "bright")
    assert opened.labels.ignore is not None and opened.labels.ignore.name == "dark"


@pytest.mark.long(8)
def test_weights_are_the_same_prepared_opened_streamed_and_without_a_cache(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    first, _ = train(root, "a", path=str(data))
    assert PreparedCache.of_root(root).use().entries == 6
    prepared = recorded_calls(monkeypatch, Preparation, "prepare")
    moved = recorded_calls(monkeypatch, SubjectStore, "add")
    streams = recorded_calls(monkeypatch, StreamedSubjects, "__init__")
    assert train(root, "b", path=str(data))[0] == first and not prepared and not streams
    assert train(root, "c", path=str(data), resident_gb=1e-6)[0] == first
    assert not prepared and not moved and streams, "streamed from where they are kept, without a copy"
    monkeypatch.setenv("SEGMENTARIUM_CACHE_GB", "0")
    assert train(root, "d", path=str(data), resident_gb=1e-6)[0] == first
    assert len(prepared) == len(moved) == 6


@pytest.mark.slow
def test_a_mirrored_copy_on_the_other_side_of_the_split_is_a_warning(data: Path, tmp_path: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        source = nib.load(data / part / "ball_0.nii.gz")
        mirrored = np.asarray(source.dataobj)[:, ::-1]  # type: ignore[attr-defined]
        nib.save(nib.Nifti1Image(mirrored, source.affine), data / part / "ball_5.nii.gz")  # type: ignore[attr-defined]
    _, notes = train(tmp_path / "runs", "a", path=str(data), val_subjects=("ball_5",))
    assert any("ball_5: its image is that of ball_0, mirrored or turned" in note for note in notes)
    _, notes = train(tmp_path / "runs", "b", path=str(data), val_subjects=("ball_1",))
    assert not any("mirrored or turned" in note for note in notes), "both are trained on"


@pytest.mark.slow
def test_a_cropping_run_learns_the_same_with_air_around_the_content(tmp_path: Path) -> None:
    folders = [write_balls(tmp_path / name, 3) for name in ("content", "with_air")]
    for number, folder in enumerate(folders):
        for file in sorted((folder / "imagesTr").iterdir()):
            for path in (file, folder / "labelsTr" / file.name):
                stored = nib.load(path)
                voxels = np.asarray(stored.dataobj)
                if path is file:
                    voxels = np.where(voxels == 0, 0.5, voxels).astype(np.float32)
                if number:
                    voxels = np.pad(voxels, ((4, 2), (1, 6), (0, 3)))
                nib.save(nib.Nifti1Image(voxels, stored.affine), path)
    runs = [
        train(tmp_path / "runs", folder.name, path=str(folder), crop=crop, samples_val=2, whole_every=0)[0]
        for folder, crop in zip(folders, (False, True), strict=True)
    ]
    assert runs[0] == runs[1]
    metadata = load(tmp_path / "runs" / "with_air" / "last.safetensors").metadata
    assert metadata.train_config.data.crop and metadata.config["data"]["crop"] is True
