"""Large volumes in slabs: the same voxels as those of whole volumes, prepared once, with progress and errors."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from core.datasets import load_subject, open_dataset
from core.datasets.single_case import dataset_of_images
from core.errors import VolumeError
from core.imaging.bounded_io import decompress_pieces
from core.imaging.display import upright_slices
from core.imaging.volume import write_label
from tests.support.balls import SPACING_MM, write_balls
from ui.shared.paths import cache_root
from ui.viewer import streamed_scenes, streams, volumes
from ui.viewer.epochs import EpochFile, with_epochs
from ui.viewer.heat import disagreement
from ui.viewer.scenes import Scene, image_scene, subject_scene
from ui.viewer.second_prediction import LAYER as SECOND_PREDICTION
from ui.viewer.second_prediction import SecondFile, with_second
from ui.viewer.streamed_scenes import StreamedSubject

TIMEOUT_S = 30


@pytest.fixture(autouse=True)
def own_root(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(streamed_scenes, "WHOLE_VOXELS", 1000)
    return checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_balls(tmp_path / "balls", subjects=2)
    return tmp_path / "balls"


def ask(url: str, query: str = "") -> Response:
    token = url.removeprefix(streams.PREFIX)
    scope = {"type": "http", "method": "GET", "path": url, "headers": [], "path_params": {"token": token}}
    return streams.stream(Request(scope | {"query_string": query.encode()}))


def facts(url: str) -> dict[str, Any]:
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        state: dict[str, Any] = json.loads(bytes(ask(url).body))
        assert "error" not in state, state
        if "facts" in state:
            return state["facts"]  # type: ignore[no-any-return]
        time.sleep(0.01)
    raise AssertionError("the volume was not prepared")


def error(url: str) -> str:
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        state = json.loads(bytes(ask(url).body))
        if "error" in state:
            return str(state["error"])
        time.sleep(0.01)
    raise AssertionError("no error")


def slab(scene: Scene, url: str, axis: int, first: int, count: int, dtype: str) -> np.ndarray:
    answer = ask(url, f"slab=0,{axis},{first},{count}")
    assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip"
    shape = [n if a != axis else count for a, n in enumerate(scene.grid.shape)]
    return np.frombuffer(gzip.decompress(bytes(answer.body)), dtype).reshape(shape, order="F")


@pytest.mark.parametrize("number", [0, 1])  # stored as RAS and as LAS
def test_slices_are_shown_while_the_volume_is_decompressed_and_then_the_middle_one(
    folder: Path, own_root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    subject = subject_of(folder, number)
    streamed = StreamedSubject.of(open_dataset(folder), subject, "")
    assert streamed is not None
    stream, url = streams.ImageStream(streamed._parts), streams.PREFIX + "preview"
    monkeypatch.setitem(streams._streams, "preview", stream)
    (own_root / ".cache" / "volumes").mkdir(parents=True)
    states: list[dict[str, Any]] = []
    previews: list[Response] = []

    def in_small_pieces(path: Path, count: int, **options: Any) -> Iterator[bytes]:
        for piece in decompress_pieces(path, count, **options):
            for first in range(0, len(piece), 1024):
                yield piece[first : first + 1024]
                states.append(json.loads(bytes(ask(url).body)))
                if "preview" in states[-1] and states[-1].get("preview") != states[-2].get("preview"):
                    previews.append(ask(url, "preview=1"))

    monkeypatch.setattr("core.imaging.mapped_volume.decompress_pieces", in_small_pieces)
    stream.prepare()
    known = ["preview" in state for state in states]
    assert known.index(True) / len(known) < 0.3, "long before the middle slice is there"
    image = load_subject(open_dataset(folder), subject).image[0]
    shown = list(dict.fromkeys(state["preview"]["slice"] for state in states if "preview" in state))
    assert shown == [image.shape[2] * eighths // 8 for eighths in (1, 2, 3, 4)]
    width_mm, height_mm = image.shape[0] * SPACING_MM[0], image.shape[1] * SPACING_MM[1]
    assert states[-1]["preview"]["slices"] == image.shape[2]
    assert states[-1]["preview"]["ratio"] == pytest.approx(width_mm / height_mm)
    picture = np.asarray(Image.open(io.BytesIO(bytes(previews[-1].body)))).astype(float)
    plane = upright_slices(image[:, :, image.shape[2] // 2], oriented=True)
    assert picture.shape == plane.shape
    assert np.corrcoef(picture.ravel(), plane.ravel())[0, 1] > 0.95


def subject_of(folder: Path, number: int = 0) -> str:
    return open_dataset(folder).ids[number]


@pytest.mark.parametrize("number", [0, 1])  # stored as RAS and as LAS
def test_slabs_equal_the_whole_volume(folder: Path, number: int) -> None:
    subject = subject_of(folder, number)
    loaded = load_subject(open_dataset(folder), subject)
    assert loaded.label is not None
    scene = subject_scene(folder, subject)
    assert scene.streamed and scene.channels == () and scene.grid.shape == loaded.geometry.shape
    (channel,) = facts(scene.image)["channels"]
    truth = facts(scene.layers["truth"])
    labelled = np.nonzero(loaded.label)
    assert truth["content"] == [[int(side.min()), int(side.max())] for side in labelled]
    for axis in range(3):
        counts = np.count_nonzero(loaded.label, axis=tuple(a for a in range(3) if a != axis))
        assert counts[truth["fullest"][axis]] == counts.max()
        cut = [slice(None)] * 3
        cut[axis] = slice(5, 8)
        stored = slab(scene, scene.image, axis, 5, 3, "<u2")
        shown = channel["offset"] + stored * channel["step"]
        assert (
            np.abs(shown - loaded.image[0][tuple(cut)].clip(channel["low"], channel["high"])).max() <= channel["step"]
        )
        assert np.array_equal(slab(scene, scene.layers["truth"], axis, 5, 3, "u1"), loaded.label[tuple(cut)])
    number_of_voxel = int(np.ravel_multi_index((3, 4, 5), loaded.geometry.shape))
    assert np.frombuffer(bytes(ask(scene.image, f"at={number_of_voxel}").body), "<f4") == loaded.image[0][3, 4, 5]
    assert len(gzip.decompress(bytes(ask(scene.image, "sample=0").body))) == 2 * loaded.image[0].size


def test_whole_numbers_of_16_bits_are_exact(folder: Path) -> None:
    subject = subject_of(folder)
    file = open_dataset(folder).subject(subject).images["M0"].path
    image = nib.load(file)
    values = np.random.default_rng(0).integers(-2000, 3000, image.shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, image.affine), file)
    scene = subject_scene(folder, subject)
    (channel,) = facts(scene.image)["channels"]
    loaded = load_subject(open_dataset(folder), subject)
    shown = channel["offset"] + slab(scene, scene.image, 2, 4, 2, "<u2").astype(float)
    assert channel["exact"] and np.array_equal(shown, loaded.image[0][..., 4:6])


def test_volume_is_prepared_once_and_found_again_by_another_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of(folder)
    scene = subject_scene(folder, subject)
    facts(scene.layers["truth"])
    assert subject_scene(folder, subject) == scene
    streams._streams.clear()  # as after a restart
    assert ask(scene.image).status_code == 404
    monkeypatch.setattr(streams, "encode_label", lambda index: pytest.fail("converted again"))
    assert facts(subject_scene(folder, subject).layers["truth"])["fullest"]


def test_small_subjects_and_one_hot_labels_are_sent_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_scenes, "WHOLE_VOXELS", 10**9)
    assert not subject_scene(folder, subject_of(folder)).streamed


def test_prediction_is_streamed_in_the_classes_of_the_model_and_must_fit(folder: Path, tmp_path: Path) -> None:
    dataset, subject = open_dataset(folder), subject_of(folder)
    label = dataset.subject(subject).label
    assert label is not None
    scene = subject_scene(folder, subject, dataset.labels, label)
    facts(scene.layers["prediction"])
    expected = load_subject(dataset, subject).label
    assert expected is not None
    assert np.array_equal(slab(scene, scene.layers["prediction"], 1, 2, 4, "u1"), expected[:, 2:6])
    small = tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), small)
    with pytest.raises(VolumeError, match="expected a segmentation of"):
        subject_scene(folder, subject, dataset.labels, small)


def test_heat_layer_is_streamed_and_prepared_when_it_is_first_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, subject = open_dataset(folder), subject_of(folder)
    loaded = load_subject(dataset, subject)
    percents = np.random.default_rng(0).integers(0, 101, loaded.geometry.shape, np.uint8)
    write_label(tmp_path / "map.nii.gz", percents, loaded.stored, loaded.first_image)
    prepared: list[str] = []
    prepare = streams.LabelStream.prepare

    def noted(own: streams.LabelStream) -> dict[str, Any]:
        prepared.append(own.name)
        return prepare(own)

    monkeypatch.setattr(streams.LabelStream, "prepare", noted)
    scene = subject_scene(folder, subject, heat=[disagreement(tmp_path / "map.nii.gz")])
    (layer,) = scene.heat
    facts(scene.layers["truth"])
    assert not any("heat" in name for name in prepared)
    facts(layer.url)
    assert sum("heat" in name for name in prepared) == 1
    assert np.array_equal(slab(scene, layer.url, 2, 3, 4, "u1"), percents[:, :, 3:7])
    write_label(tmp_path / "more.nii.gz", percents + 100, loaded.stored, loaded.first_image)
    (wrong,) = subject_scene(folder, subject, heat=[disagreement(tmp_path / "more.nii.gz")]).heat
    assert "more.nii.gz: expected a map of whole numbers from 0 to 100" in error(wrong.url)


def test_kept_epochs_are_streamed_and_a_file_that_does_not_fit_is_an_answer(folder: Path, tmp_path: Path) -> None:
    dataset, subject = open_dataset(folder), subject_of(folder, 1)  # stored as LAS
    loaded = load_subject(dataset, subject)
    index = np.random.default_rng(0).integers(0, 3, loaded.geometry.shape, np.uint8)
    write_label(tmp_path / "epoch.nii.gz", dataset.labels.to_raw(index), loaded.stored, loaded.first_image)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "small.nii.gz")
    files = [EpochFile("epoch 1", tmp_path / "epoch.nii.gz", 0.5), EpochFile("epoch 2", tmp_path / "small.nii.gz")]
    scene = with_epochs(subject_scene(folder, subject), dataset, subject, dataset.labels, files)
    assert [(layer.name, layer.dice) for layer in scene.epochs] == [("epoch 1", 0.5), ("epoch 2", None)]
    first, second = (layer.url for layer in scene.epochs)
    assert streams._streams[first.removeprefix(streams.PREFIX)].waits, "prepared when it is first shown"
    facts(first)
    assert np.array_equal(slab(scene, first, 0, 6, 4, "u1"), index[6:10])
    assert "small.nii.gz: expected a segmentation of" in error(second)


def test_second_prediction_is_streamed_in_the_classes_of_the_first_one(folder: Path, tmp_path: Path) -> None:
    dataset, subject = open_dataset(folder), subject_of(folder, 1)  # stored as LAS
    loaded = load_subject(dataset, subject)
    index = np.random.default_rng(0).integers(0, 3, loaded.geometry.shape, np.uint8)
    file, label = tmp_path / "second.nii.gz", tmp_path / "first.nii.gz"
    write_label(file, dataset.labels.to_raw(index), loaded.stored, loaded.first_image)
    write_label(label, np.zeros(loaded.geometry.shape, np.uint8), loaded.stored, loaded.first_image)
    shown = dataset.labels.subset(dataset.labels.names[2:])
    first = subject_scene(folder, subject, shown, label)
    scene, warnings = with_second(first, dataset, subject, shown, SecondFile(file, dataset.labels))
    url = scene.layers[SECOND_PREDICTION]
    facts(url)
    assert url.startswith(streams.PREFIX) and scene.layers["truth"] == first.layers["truth"]
    assert np.array_equal(slab(scene, url, 0, 6, 4, "u1"), (index == 2)[6:10])
    assert warnings == [f"not shown, as the first prediction has no such class: {dataset.labels.names[1]}"]
    for name in ("truth", "prediction"):
        facts(scene.layers[name])
    token = scene.changes.removeprefix(volumes.PREFIX)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "path_params": {"token": token}}
    answer = volumes.volume(Request(scope | {"query_string": b""}))
    assert isinstance(answer, volumes._VolumeResponse) and loaded.label is not None
    counted = json.loads(gzip.decompress(Path(answer.path).read_bytes()))
    truth, other = loaded.label == 2, index == 2
    assert counted == [int((~truth & other).sum()), int((truth & other).sum()), int((truth & ~other).sum())]
    assert min(counted) > 0 and first.changes == ""


def test_second_prediction_that_cannot_be_streamed_says_why(folder: Path, tmp_path: Path) -> None:
    dataset, subject = open_dataset(folder), subject_of(folder)
    loaded, scene = load_subject(dataset, subject), subject_scene(folder, subject)

    def second(name: str, values: np.ndarray) -> str:
        path = tmp_path / name
        nib.save(nib.Nifti1Image(values, np.asarray(loaded.stored.affine)), path)
        shown, _ = with_second(scene, dataset, subject, dataset.labels, SecondFile(path, dataset.labels))
        return shown.layers[SECOND_PREDICTION]

    shape = loaded.stored.shape
    unknown = error(second("unknown.nii.gz", np.full(shape, 7, np.uint8)))
    assert "unknown.nii.gz: expected only the label values [0, 1, 2], found also 7" in unknown
    with pytest.raises(VolumeError, match="on the grid of the image"):
        second("small.nii.gz", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(VolumeError, match=r"label map of numbers beside an image of this size, got 2 channels"):
        second("channels.nii.gz", np.zeros((*shape, 2), np.uint8))


def test_files_that_are_looked_at_are_in_use(folder: Path, tmp_path: Path) -> None:
    """Else the cache, which removes the least recently used, would lose the image to the epochs that are looked at."""
    dataset, subject = open_dataset(folder), subject_of(folder)
    files = [EpochFile("epoch 1", dataset.subject(subject).label or Path())]
    scene = with_epochs(subject_scene(folder, subject), dataset, subject, dataset.labels, files)
    for url in (scene.image, scene.layers["truth"], scene.epochs[0].url):
        facts(url)
        cached = streams._streams[url.removeprefix(streams.PREFIX)].cached
        assert cached and all(path.is_relative_to(cache_root()) for path in cached)
        for path in cached:
            os.utime(path, (0, 0))
        slab(scene, url, 2, 0, 1, "<u2" if url == scene.image else "u1")
        assert all(path.stat().st_mtime > 0 for path in cached)


def test_images_of_no_data_set_are_streamed_too(folder: Path) -> None:
    dataset, subject = open_dataset(folder), subject_of(folder, 1)
    file = dataset.subject(subject).images["M0"].path
    scene = image_scene([file], dataset_of_images([file], ["M0"], (), False), ["M0"], dataset.labels)
    assert scene.streamed and not scene.layers
    (channel,) = facts(scene.image)["channels"]
    assert channel["name"] == "M0"


def test_damaged_file_is_an_error_that_names_it_and_a_mended_one_is_tried_again(folder: Path) -> None:
    subject = subject_of(folder)
    file = open_dataset(folder).subject(subject).images["M0"].path
    good = file.read_bytes()
    file.write_bytes(good[:-20])
    assert file.name in error(subject_scene(folder, subject).image)
    file.write_bytes(good)
    assert facts(subject_scene(folder, subject).image)["channels"]


@pytest.mark.parametrize(
    "query", ["slab=0,3,0,1", "slab=1,0,0,1", "slab=0,0,999,1", "slab=0,0,0,33", "slab=0,0", "sample=4", "what=1"]
)
def test_other_questions_are_refused(folder: Path, query: str) -> None:
    scene = subject_scene(folder, subject_of(folder))
    facts(scene.image)
    assert ask(scene.image, query).status_code == 400
    assert ask(streams.PREFIX + "0" * 32, "slab=0,0,0,1").status_code == 404


def test_number_of_known_streams_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 2)
    urls = [subject_scene(folder, subject_of(folder, n)).image for n in (0, 1)]
    assert ask(urls[0]).status_code == 404 and ask(urls[1]).status_code == 200
