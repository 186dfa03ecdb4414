"""What the Learn page is made of: a subject counted and cut out, a network laid open, work in child processes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from core.config import ModelConfig
from core.datasets import load_subject, open_dataset
from core.errors import DatasetError
from core.inference.predictor import Predictor
from core.inspection.feature_maps import features, write_features
from tests.support.balls import SPACING_MM, balls, write_balls
from tests.support.learn_data import BALL_LABELS, LABELS, ball_model, demo_subject, small_model
from ui.learn import jobs as learn_jobs
from ui.learn import network_data
from ui.learn.chapters import TEXT, chapters
from ui.learn.subject_data import Lesson, blob, read_lesson
from ui.shared import jobs
from ui.viewer import volumes


def unpacked(mask: dict[str, Any]) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(mask["mask"]), np.uint8))
    return bits[: mask["width"] * mask["height"]].reshape(mask["height"], mask["width"]).astype(bool)


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_subject(tmp_path_factory)


@pytest.fixture(scope="module")
def lesson(folder: Path) -> Lesson:
    return read_lesson(folder, "subject-1")


# --- a subject --------------------------------------------------------------------------------------------------------


def test_the_histograms_are_as_hard_to_tell_apart_as_published(lesson: Lesson) -> None:
    found = lesson.intensities
    assert found["modalities"] == ["T1", "T2"] and [c["name"] for c in found["classes"]] == ["CSF", "GM", "WM"]
    t1, t2 = ({(c, d): value for c, d, value in pairs} for pairs in found["overlaps"])
    assert t1[1, 2] == pytest.approx(0.70, abs=0.06) and t2[1, 2] == pytest.approx(0.90, abs=0.06)
    assert t1[0, 1] == pytest.approx(0.36, abs=0.06) and t2[0, 2] == pytest.approx(0.35, abs=0.08)
    assert np.array(found["counts"]).sum(axis=(1, 2)).tolist() == [found["head"]] * 2
    assert 0.5 < max(found["guesses"][:2]) < found["guesses"][2] < 0.8


def test_everything_is_plain_and_small(lesson: Lesson) -> None:
    for part in (lesson.intensities, lesson.block, lesson.slices, lesson.masks, lesson.shares, blob()):
        assert len(json.dumps(part, allow_nan=False)) < 200_000


def test_masks_and_slices_are_the_subjects_own(lesson: Lesson, folder: Path) -> None:
    label = load_subject(open_dataset(folder), "subject-1").label
    assert label is not None
    spans = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    k = int(spans[2][0] + spans[2][-1]) // 2
    plane = label[:, :, k].T[::-1]
    assert [m["name"] for m in lesson.masks] == ["CSF in a slice", "GM in a slice", "WM in a slice"]
    for n, mask in enumerate(lesson.masks, start=1):
        here = unpacked(mask)
        assert here.sum() == (plane == n).sum()
        rows, columns = (np.flatnonzero((plane > 0).any(axis=a)) for a in (1, 0))
        top, left = max(0, rows[0] - 8), max(0, columns[0] - 8)
        np.testing.assert_array_equal(here, (plane == n)[top : top + mask["height"], left : left + mask["width"]])
    assert picture(lesson.slices["slices"]["axial"]).shape == (192, 144, 3)
    assert picture(lesson.slices["slices"]["coronal"]).shape == (256, 144, 3)
    assert picture(lesson.slices["slices"]["sagittal"]).shape == (256, 192, 3)
    yellow = picture(lesson.slices["slices"]["axial"]).astype(int)
    assert (
        (yellow[..., 0] - yellow[..., 2])[plane == 3].mean() > 60 > (yellow[..., 0] - yellow[..., 2])[plane == 1].mean()
    )


def test_the_extent_is_that_of_the_head_and_some_air(lesson: Lesson, folder: Path) -> None:
    label = load_subject(open_dataset(folder), "subject-1").label
    assert label is not None
    spans = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    assert lesson.extent == tuple(span[-1] - span[0] + 9 for span in spans)


def test_shares_are_of_the_whole_scan(lesson: Lesson, folder: Path) -> None:
    label = load_subject(open_dataset(folder), "subject-1").label
    assert label is not None
    for n, share in enumerate(lesson.shares["shares"]):
        assert share["share"] == pytest.approx((label == n).mean())
    assert lesson.shares["total"] == label.size


def test_the_block_under_the_kernel_is_three_neighbouring_slices(lesson: Lesson, folder: Path) -> None:
    block = np.array(lesson.block["values"]).reshape(3, 21, 21)
    assert block.min() == 0 and block.max() == 99
    between = np.corrcoef(block[0].ravel(), block[1].ravel())[0, 1]
    assert 0.5 < between < 1, "neighbours resemble each other"
    assert np.abs(block[2] - block[0]).mean() > 5, "and differ"


def oriented_subject(folder: Path, flipped: bool) -> Path:
    """One subject of balls, stored as RAS or as LAS."""
    image, label = balls(4, shape=(40, 36, 30))
    affine = np.diag([*SPACING_MM, 1.0])
    if flipped:
        image, label = image[:, ::-1], label[::-1]
        affine = affine @ np.array([[-1, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    for part, array in (("imagesTr", image[0]), ("labelsTr", label)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), folder / part / "a.nii.gz")
    content = {
        "name": "Balls", "modality": {"0": "M0"}, "labels": {"0": "background", "1": "bright", "2": "dark"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}], "test": [],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_a_known_orientation_is_drawn_as_in_the_viewer_however_it_is_stored(tmp_path: Path) -> None:
    one, other = (read_lesson(oriented_subject(tmp_path / str(f), f), "a") for f in (False, True))
    assert one == other and one.slices["oriented"]
    assert one.intensities["joint"] is None, "one modality"
    label = balls(4, shape=(40, 36, 30))[1]
    spans = np.flatnonzero(label.any(axis=(0, 1)))
    plane = label[:, :, (spans[0] + spans[-1]) // 2].T[::-1, ::-1]  # the patient's right on the left
    across = np.flatnonzero((plane > 0).any(axis=0))
    left = max(0, across[0] - 8)
    np.testing.assert_array_equal(
        unpacked(one.masks[0]).any(axis=0), (plane == 1).any(axis=0)[left : left + one.masks[0]["width"]]
    )


def test_a_subject_that_no_lesson_can_be_made_of(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least 21x21x3 voxels"):
        read_lesson(write_balls(tmp_path / "small", subjects=1), "ball_0")
    data = oriented_subject(tmp_path, False)
    nib.save(nib.Nifti1Image(np.zeros((40, 36, 30), np.uint8), np.diag([*SPACING_MM, 1.0])), data / "labelsTr/a.nii.gz")
    with pytest.raises(DatasetError, match="label map of a with something in it"):
        read_lesson(data, "a")


def test_the_words_have_six_chapters_and_name_presets_as_they_are() -> None:
    found = chapters()
    assert list(found) == ["contrast", "convolution", "sub-volumes", "dice", "imbalance", "network"]
    assert all(len(text) > 200 and re.match("[A-Z]", title) for title, text in found.values())
    whole = TEXT.read_text("utf-8")
    assert sum(len(text) for _, text in found.values()) > 0.9 * len(whole), "no words are lost"
    from core.presets import preset

    assert preset("article").loss.loss == "dice" and {preset(n).loss.loss for n in ("quick", "fast")} == {"dice_ce"}


# --- a network --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["unet3d", "vnet"])
def test_the_figure_without_maps_has_the_stages_of_the_network_itself(tmp_path: Path, model: str) -> None:
    segmenter = Predictor(ball_model(tmp_path / "m.safetensors", model))
    found = features(segmenter, balls(1)[0], SPACING_MM)
    config = ModelConfig(model, (4, 6, 8), norm="instance")
    drawn = network_data.stages(config, ("M0",), BALL_LABELS.names, (16, 16, 16))
    assert [(s["name"], s["kind"], s["level"], s["channels"], tuple(s["size"])) for s in drawn] == [
        (s.name, s.kind, s.level, len(s.values), s.size) for s in found.stages
    ]


def bundle(url: str) -> dict[str, Any]:
    """What the browser gets."""
    found: dict[str, Any] = json.loads(
        gzip.decompress(volumes._published[url.removeprefix(volumes.PREFIX)].read_bytes())
    )
    return found


@pytest.mark.parametrize("subject", ["ball_0", "ball_1"])  # stored as RAS and as LAS
def test_maps_go_to_the_browser_in_one_piece_with_the_truth_of_their_slice(
    checkpoints: Path, tmp_path: Path, subject: str
) -> None:
    data, out = write_balls(tmp_path / "data", subjects=2), tmp_path / "maps"
    segmenter = Predictor(ball_model(tmp_path / "m.safetensors"))
    loaded = load_subject(open_dataset(data), subject)
    manifest = write_features(out, segmenter, loaded)
    url = network_data.publish_maps(out, data, subject, segmenter.labels)
    sent = bundle(url)
    named = [m["file"] for stage in manifest["stages"] for m in stage["maps"]]
    assert set(sent["files"]) == set(named)
    assert base64.b64decode(sent["files"][named[0]]) == (out / named[0]).read_bytes()
    i, j, _ = manifest["sub_volume"]["start"]
    assert loaded.label is not None
    expected = loaded.label[i : i + 16, j : j + 16, manifest["slice"]].T[::-1, ::-1]
    assert expected.any()
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(sent["truth"]), np.uint8).reshape(16, 16), expected)
    logits = np.frombuffer(base64.b64decode(sent["logits"]), "<f4").reshape(3, 16, 16)
    values = features(segmenter, loaded.image, loaded.geometry.spacing_mm).stage("logits").values
    np.testing.assert_array_equal(logits, values.transpose(0, 2, 1)[:, ::-1, ::-1])
    assert network_data.publish_maps(out, data, subject, segmenter.labels) == url
    assert bundle(network_data.publish_maps(out, data, subject, LABELS))["truth"] is None, "other classes"


# --- work in child processes ------------------------------------------------------------------------------------------


def wait(observe: Callable[[], jobs.Job]) -> jobs.Job:
    end = time.monotonic() + 120
    while (job := observe()).state == "running" and time.monotonic() < end:
        time.sleep(0.05)
    return job


def test_feature_maps_are_computed_once_for_each_state_of_a_checkpoint(checkpoints: Path, folder: Path) -> None:
    model = small_model(checkpoints)
    images = [folder / f"subject-1-{m}.hdr" for m in ("T1", "T2")]
    first = learn_jobs.features_folder(model, images)
    assert learn_jobs.features(first).state == "none"
    learn_jobs.start_features(model, images, [], first)
    assert wait(lambda: learn_jobs.features(first)).state == "done"
    assert network_data.manifest(first)["sub_volume"]["size"] == [32, 32, 16]
    os.utime(model, (1, 1))
    second = learn_jobs.features_folder(model, images)
    assert second != first and second.parent == first.parent
    jobs._running.clear()  # as after a restart of the server
    assert learn_jobs.features(first).state == "done"
    learn_jobs.start_features(model, images, [], second)
    assert not first.exists(), "maps of what is no longer there go"
    assert wait(lambda: learn_jobs.features(second)).state == "done"


def test_feature_maps_of_a_damaged_checkpoint_fail_with_its_reason(checkpoints: Path, folder: Path) -> None:
    model = small_model(checkpoints)
    model.write_bytes(b"nothing")
    images = [folder / f"subject-1-{m}.hdr" for m in ("T1", "T2")]
    place = learn_jobs.features_folder(model, images)
    learn_jobs.start_features(model, images, [], place)
    job = wait(lambda: learn_jobs.features(place))
    assert job.state == "failed" and "checkpoint" in job.message


def test_sub_volumes_are_drawn_by_a_child(checkpoints: Path, folder: Path) -> None:
    options = ["--sub-volume", "64x64x64", "--foreground", "0.9", "--count", "20"]
    place = learn_jobs.places_folder(folder / "subject-1-label.hdr", options)
    learn_jobs.start_places(folder, "subject-1", options, place)
    assert wait(lambda: learn_jobs.places(place)).state == "done"
    report = learn_jobs.drawn_places(place)
    assert len(report["draws"][0]["starts"]) == 20 and math.isclose(sum(report["share"]), 1)
    assert learn_jobs.places_folder(folder / "subject-1-label.hdr", options[:-1]) != place
