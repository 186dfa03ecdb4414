"""The list of models and the metadata of checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.config import TrainConfig
from core.errors import CheckpointError
from core.runs.launch import create_run
from ui.shared import cache


@pytest.fixture
def demo_model_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "demo-model" / "model.safetensors"
    monkeypatch.setattr("ui.shared.cache.demo_model_path", lambda: path)
    return path


def test_models_are_runs_with_checkpoints_newest_first_then_the_demo_model(
    checkpoints: Path, demo_model_path: Path
) -> None:
    assert cache.models() == []
    folders = [create_run(checkpoints, TrainConfig(), name) for name in ("old", "none yet", "twin", "twin")]
    for number, folder in enumerate(folders):
        if number != 1:
            (folder / "last.safetensors").write_bytes(b"1")
    (folders[0] / "best.safetensors").write_bytes(b"1")
    demo_model_path.parent.mkdir()
    demo_model_path.write_bytes(b"1")
    found = cache.models()
    assert {m.key for m in found} == {"demo-model", *(f.name for n, f in enumerate(folders) if n != 1)}
    assert (found[-1].key, found[-1].path) == ("demo-model", demo_model_path)
    by_key = {m.key: m for m in found}
    assert by_key[folders[0].name].path == folders[0] / "best.safetensors"
    assert by_key[folders[0].name].name == "old" and by_key[folders[2].name].name == f"twin ({folders[2].name})"


def test_ensembles_are_listed_before_the_demo_model_where_they_are_asked_for(
    checkpoints: Path, demo_model_path: Path
) -> None:
    folder = create_run(checkpoints, TrainConfig(), "one")
    for path in (folder / "last.safetensors", checkpoints / "ensembles" / "pair.safetensors", demo_model_path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    assert [model.key for model in cache.models(ensembles=True)] == [folder.name, "ensembles/pair", "demo-model"]
    assert [model.key for model in cache.models()] == [folder.name, "demo-model"]


def test_metadata_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    from core.paths import demo_model_path

    path = tmp_path / "model.safetensors"
    shutil.copy(demo_model_path(), path)
    assert cache.checkpoint_metadata(path).label_space.names == ("background", "CSF", "GM", "WM")
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        cache.checkpoint_metadata(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="found no file"):
        cache.checkpoint_metadata(path)
