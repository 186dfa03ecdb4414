"""Heat layers: stored values on the grid of the image, made at the first request, and their errors."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from core.datasets import load_subject, open_dataset
from core.imaging.volume import write_label
from tests.support.balls import SHAPE, write_balls
from ui.viewer import volumes
from ui.viewer.heat import HeatFile, HeatScale, disagreement
from ui.viewer.scenes import subject_scene

PERCENTS = np.random.default_rng(0).integers(0, 101, SHAPE, np.uint8)


@pytest.fixture
def data(tmp_path: Path, checkpoints: Path) -> Path:
    return write_balls(tmp_path / "balls", subjects=2)


def ask(url: str) -> Any:
    token = url.removeprefix(volumes.PREFIX)
    scope = {"type": "http", "method": "GET", "path": url, "headers": [], "path_params": {"token": token}}
    return volumes.volume(Request(scope | {"query_string": b""}))


def values(answer: Response) -> np.ndarray:
    assert isinstance(answer, FileResponse)
    stored = np.frombuffer(gzip.decompress(Path(answer.path).read_bytes()), np.uint8)
    return stored.reshape(SHAPE, order="F")


def write_map(data: Path, subject: str, file: Path) -> Path:
    loaded = load_subject(open_dataset(data), subject)
    write_label(file, PERCENTS, loaded.stored, loaded.first_image)
    return file


def test_values_are_on_the_grid_of_the_image_and_read_when_first_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for subject in ("ball_0", "ball_1"):  # the second is stored with flipped axes
        file = write_map(data, subject, tmp_path / f"{subject}.nii.gz")
        with monkeypatch.context() as patch:
            patch.setattr("ui.viewer.heat.read_label", lambda _: pytest.fail("read before it is shown"))
            (layer,) = subject_scene(data, subject, heat=[disagreement(file)]).heat
        assert layer.name == "disagreement" and (layer.scale.high, layer.scale.unit) == (100, "%")
        np.testing.assert_array_equal(values(ask(layer.url)), PERCENTS)
        with monkeypatch.context() as patch:
            patch.setattr("ui.viewer.heat.read_label", lambda _: pytest.fail("read again"))
            np.testing.assert_array_equal(values(ask(layer.url)), PERCENTS)


def test_changed_map_has_a_new_url(data: Path, tmp_path: Path) -> None:
    file = write_map(data, "ball_0", tmp_path / "map.nii.gz")
    (before,) = subject_scene(data, "ball_0", heat=[disagreement(file)]).heat
    file.unlink()
    write_label(file, PERCENTS // 2, *_stored(data))
    (after,) = subject_scene(data, "ball_0", heat=[disagreement(file)]).heat
    assert before.url != after.url
    np.testing.assert_array_equal(values(ask(after.url)), PERCENTS // 2)


@pytest.mark.parametrize(
    ("content", "levels", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), 100, "expected a map of 20 × 24 × 18 voxels like the image, found 4 × 4 × 4"),
        (np.full(SHAPE, 101, np.uint8), 100, "expected a map of whole numbers from 0 to 100, found 101 to 101"),
        (np.full(SHAPE, -1, np.int16), 255, "expected a map of whole numbers from 0 to 255, found -1 to -1"),
    ],
)
def test_map_that_does_not_fit_is_an_answer_that_names_its_file(
    data: Path, tmp_path: Path, content: np.ndarray, levels: int, message: str
) -> None:
    file = tmp_path / "map.nii.gz"
    nib.save(nib.Nifti1Image(content, np.eye(4)), file)
    heat = HeatFile("map", file, HeatScale(levels=levels))
    (layer,) = subject_scene(data, "ball_0", heat=[heat]).heat
    answer = ask(layer.url)
    assert answer.status_code == 422 and f"{file}: {message}" in bytes(answer.body).decode()


def _stored(data: Path) -> tuple[Any, Path]:
    loaded = load_subject(open_dataset(data), "ball_0")
    return loaded.stored, loaded.first_image
