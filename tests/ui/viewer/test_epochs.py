"""Segmentations by kept epochs as layers of a scene: on the grid of the image, read when they are first asked for."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import FileResponse

from core.datasets import load_subject, open_dataset
from core.imaging.volume import write_label
from tests.support.balls import SHAPE, write_balls
from ui.viewer import volumes
from ui.viewer.epochs import EpochFile, with_epochs
from ui.viewer.scenes import subject_scene


def ask(url: str) -> Any:
    scope = {"type": "http", "method": "GET", "path": url, "headers": [], "query_string": b""}
    return volumes.volume(Request({**scope, "path_params": {"token": url.removeprefix(volumes.PREFIX)}}))


def test_class_indices_are_those_of_the_file_in_canonical_order_and_read_when_asked_for(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_balls(tmp_path / "balls", subjects=2)
    dataset, generator = open_dataset(data), np.random.default_rng(0)
    loaded = load_subject(dataset, "ball_1")  # stored with flipped axes
    files, indices = [], []
    for number, dice in ((2, 0.25), (4, float("nan"))):
        index = generator.integers(0, 3, SHAPE, np.uint8)
        file = tmp_path / f"epoch-{number}.nii.gz"
        write_label(file, dataset.labels.to_raw(index), loaded.stored, loaded.first_image)
        files.append(EpochFile(f"epoch {number}", file, dice))
        indices.append(index)
    scene = subject_scene(data, "ball_1")
    with monkeypatch.context() as patch:
        patch.setattr("ui.viewer.scenes.read_label", lambda _: pytest.fail("read before it is shown"))
        first, second = with_epochs(scene, dataset, "ball_1", dataset.labels, files).epochs
    assert (first.name, first.dice) == ("epoch 2", 0.25) and (second.name, second.dice) == ("epoch 4", None)
    for layer, index in zip((first, second), indices, strict=True):
        answer = ask(layer.url)
        assert isinstance(answer, FileResponse)
        stored = np.frombuffer(gzip.decompress(Path(answer.path).read_bytes()), np.uint8)
        np.testing.assert_array_equal(stored.reshape(SHAPE, order="F"), index)
    write_label(files[0].file, dataset.labels.to_raw(indices[1]), loaded.stored, loaded.first_image)
    assert with_epochs(scene, dataset, "ball_1", dataset.labels, files).epochs[0].url != first.url


def test_a_file_on_another_grid_is_refused_when_it_is_asked_for(tmp_path: Path, checkpoints: Path) -> None:
    data = write_balls(tmp_path / "balls", subjects=2)
    dataset, small = open_dataset(data), tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), small)  # type: ignore[attr-defined]
    files = [EpochFile("epoch 1", small)]
    scene = with_epochs(subject_scene(data, "ball_0"), dataset, "ball_0", dataset.labels, files)
    answer = ask(scene.epochs[0].url)
    assert answer.status_code != 200 and b"expected a segmentation of" in answer.body
