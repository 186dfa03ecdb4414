"""Heat layers whose file is computed when it is first asked for: progress, values, failures that can be repeated."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response

from core.datasets import load_subject, open_dataset
from core.errors import VolumeError
from core.imaging.volume import write_label
from tests.support.balls import SHAPE, write_balls
from ui.viewer import computed_stream, streamed_scenes, streams, volumes
from ui.viewer.heat import HeatFile, HeatLayer, HeatScale
from ui.viewer.scenes import subject_scene
from ui.viewer.volumes import Pending

SUBJECT = "ball_1"  # stored as LAS
VALUES = np.random.default_rng(0).integers(0, 251, SHAPE, np.uint8)


@pytest.fixture
def data(tmp_path: Path, checkpoints: Path) -> Path:
    return write_balls(tmp_path / "balls", subjects=2)


def computed_layer(data: Path, file: Path, steps: Iterator[BaseException | None]) -> HeatLayer:
    """A layer whose file exists after the steps, each of which is raised unless it is ``None``."""
    loaded = load_subject(open_dataset(data), SUBJECT)

    def prepare() -> None:
        if not file.exists():
            step = next(steps)
            if step is not None:
                raise step
            write_label(file, VALUES, loaded.stored, loaded.first_image)

    heat = HeatFile("map", file, HeatScale(levels=250), group="g", choice="c", prepare=prepare, version="1")
    (layer,) = subject_scene(data, SUBJECT, heat=[heat]).heat
    return layer


def ask(layer: HeatLayer, query: str = "") -> Any:
    prefix, route = (
        (streams.PREFIX, streams.stream) if layer.url.startswith(streams.PREFIX) else (volumes.PREFIX, volumes.volume)
    )
    token = layer.url.removeprefix(prefix)
    scope = {"type": "http", "method": "GET", "path": layer.url, "headers": [], "path_params": {"token": token}}
    return route(Request(scope | {"query_string": query.encode()}))


def state(answer: Response) -> Any:
    return answer.status_code, json.loads(bytes(answer.body))


def test_computed_layer_tells_its_progress_and_then_has_its_values(data: Path, tmp_path: Path) -> None:
    layer = computed_layer(data, tmp_path / "map.nii.gz", iter([Pending(0), VolumeError("no"), Pending(0.4), None]))
    assert layer.computed and (layer.group, layer.choice) == ("g", "c") and not (tmp_path / "map.nii.gz").exists()
    assert state(ask(layer, "state")) == (202, {"progress": 0})
    failed = ask(layer, "state")
    assert failed.status_code == 422 and b"no" in bytes(failed.body), "and the next request tries again"
    assert state(ask(layer)) == (202, {"progress": 0.4})
    assert state(ask(layer, "state")) == (200, {"progress": 1})
    stored = np.frombuffer(gzip.decompress(Path(ask(layer).path).read_bytes()), np.uint8)
    np.testing.assert_array_equal(stored.reshape(SHAPE, order="F"), VALUES)


def test_layer_keeps_its_address_when_it_is_computed(data: Path, tmp_path: Path) -> None:
    before = computed_layer(data, tmp_path / "map.nii.gz", iter([None]))
    ask(before)
    assert (tmp_path / "map.nii.gz").exists()
    assert computed_layer(data, tmp_path / "map.nii.gz", iter([])).url == before.url


@pytest.mark.slow
def test_computed_layer_of_a_streamed_image(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_scenes, "WHOLE_VOXELS", 1000)
    monkeypatch.setattr(computed_stream, "ASK_AGAIN_S", 0.001)
    layer = computed_layer(data, tmp_path / "map.nii.gz", iter([Pending(0.2), Pending(0.6), None]))
    found = streams._streams[layer.url.removeprefix(streams.PREFIX)]
    waited: Callable[[], None] = found._run  # in this thread
    waited()
    assert found.facts is not None and found.progress == pytest.approx(computed_stream.COMPUTED_SHARE * 0.6)
    found.waits = False
    slab = np.frombuffer(gzip.decompress(bytes(ask(layer, "slab=0,2,3,4").body)), np.uint8)
    np.testing.assert_array_equal(slab.reshape((*SHAPE[:2], 4), order="F"), VALUES[:, :, 3:7])
