"""``predict`` with maps: uncertainty and probabilities in the geometry of the image, whatever its orientation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import softmax

from core.checkpointing.checkpoint import load, save
from core.checkpointing.ensemble import save_ensemble
from core.checkpointing.ensemble_metadata import read_members
from core.cli import main
from core.inference.uncertainty import entropy
from tests.support.balls import SPACING_MM, balls
from tests.support.ensemble_members import copies_as_networks
from tests.support.strict_json import loads_strict
from tests.support.volume_files import load as load_image
from tests.support.volume_files import write_nifti

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def oblique(image: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """An array (i, j, k) in RAS with its axes turned by 17 degrees, stored as (k, i, j) with i reversed; its affine."""
    angle = np.deg2rad(17)
    turned = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned @ np.diag(spacing_mm), (-11, 7, 23)
    affine[:3, 3] += affine[:3, 0] * (image.shape[0] - 1)
    affine[:3, 0] *= -1
    return image[::-1].transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]


@pytest.mark.slow
@pytest.mark.parametrize("resampled", [False, True])
def test_maps_match_the_label_map_voxel_by_voxel_in_an_oblique_image(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], resampled: bool
) -> None:
    checkpoint, (image, label), spacing = ball_run.checkpoint, balls(79), SPACING_MM
    if resampled:  # voxels of half the size along two axes
        stored = load(checkpoint)
        stored.metadata = replace(stored.metadata, spacing_mm=SPACING_MM)
        checkpoint = tmp_path / "spaced.safetensors"
        save(checkpoint, stored)
        image, label = (np.repeat(np.repeat(a, 2, axis=-1), 2, axis=-2) for a in (image, label))
        spacing = (SPACING_MM[0], SPACING_MM[1] / 2, SPACING_MM[2] / 2)
    array, affine = oblique(image[0], spacing)
    truth, _ = oblique(label, spacing)
    path = write_nifti(tmp_path / "image.nii.gz", array, affine)
    names = ["seg", "uncertainty", "mutual-information", "probabilities", "logits"]
    files = [tmp_path / f"{name}.nii.gz" for name in names]
    options = [text for name, file in zip(names[1:], files[1:], strict=True) for text in (f"--{name}", str(file))]
    arguments = ["predict", str(checkpoint), str(path), "--mirror", "--json", "--out", str(files[0])]
    assert main([*arguments, *options]) == 0
    report = loads_strict(capsys.readouterr().out)
    assert report["uncertainty"] == str(files[1]) and report["channels_of_probabilities"][1:] == ["bright", "dark"]
    written = [load_image(file) for file in files]
    for one in written:
        np.testing.assert_array_equal(one.affine, load_image(path).affine)
        assert one.shape[:3] == array.shape
    labels, total, between, probabilities, logits = (np.asarray(one.dataobj) for one in written)
    assert {one.dtype for one in (total, between, probabilities, logits)} == {np.dtype(np.float32)}
    assert probabilities.shape[3] == 3 and logits.shape == probabilities.shape and logits.min() < -0.5
    # Both are interpolated where the image is resampled: the softmax of the logits differs at borders of classes.
    away = np.abs(softmax(logits, axis=3) - probabilities)
    assert away.mean() < 0.02 if resampled else away.max() < 1e-5
    np.testing.assert_array_equal(probabilities.argmax(axis=3), labels)
    np.testing.assert_allclose(probabilities.sum(axis=3), 1, atol=1e-5)
    for value in (1, 2):
        probability, inside = probabilities[..., value], truth == value
        assert np.corrcoef(probability.ravel(), inside.ravel())[0, 1] > 0.5
        assert np.corrcoef(probability.ravel(), inside[:, ::-1].ravel())[0, 1] < 0.3, "else the test says nothing"
    assert ((between >= 0) & (between <= total + 1e-6)).all() and between.max() > 0.002
    # Passes are averaged as probabilities, the label map is that of averaged logits: entropies differ where these do.
    of_label_map = entropy(np.moveaxis(probabilities, -1, 0))
    assert np.corrcoef(total.ravel(), of_label_map.ravel())[0, 1] > 0.95
    assert main([*arguments[:3], "--out", str(tmp_path / "plain.nii.gz"), "--mirror"]) == 0
    assert (tmp_path / "plain.nii.gz").read_bytes() == files[0].read_bytes(), "maps change the label map"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mutual-information", "map.nii.gz"], "--mutual-information: expected several passes, got one network"),
        (["--logits", "map.png"], "map.png: expected a name ending in .nii or .nii.gz"),
        (["--uncertainty", "a.nii.gz", "--probabilities", "a.nii.gz"], "expected another file for each map to write"),
    ],
)
def test_maps_that_cannot_be_written_are_refused_before_anything_is(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    out, image = tmp_path / "seg.nii.gz", ball_run.data / "imagesTr" / "ball_0.nii.gz"
    placed = [str(tmp_path / text) if "." in text else text for text in options]
    assert main(["predict", str(ball_run.checkpoint), str(image), "--no-mirror", "--out", str(out), *placed]) == 1
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["predict", "maps"])
def test_logits_of_an_ensemble_are_refused(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    ensemble = tmp_path / "two.safetensors"
    networks = copies_as_networks(ball_run.checkpoint, tmp_path)
    save_ensemble(ensemble, [member for network in networks for member in read_members(network)])
    out = tmp_path / "seg.nii.gz"
    image = ball_run.data / "imagesTr" / "ball_0.nii.gz"
    arguments = [str(image), "--out", str(out), "--logits", str(tmp_path / "map.nii.gz")]
    if command == "maps":
        arguments = [str(ball_run.data), "--logits", f"--checkpoints={tmp_path}"]
    assert main([command, str(ensemble), *arguments]) == 1
    assert "--logits: expected one network, got an ensemble" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channel", "3"], "--channel: expected --stage beside it"),
        (["--stage", "bottleneck", "--logits"], "--stage: expected it without --logits"),
        (["--stage", "bottleneck"], "--stage: expected one network, got an ensemble"),
    ],
)
def test_feature_maps_that_cannot_be_made_are_refused(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    ensemble = tmp_path / "two.safetensors"
    networks = copies_as_networks(ball_run.checkpoint, tmp_path)
    save_ensemble(ensemble, [member for network in networks for member in read_members(network)])
    assert main(["maps", str(ensemble), str(ball_run.data), f"--checkpoints={tmp_path}", *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "botleneck"], "stage: expected one of encoder-0, bottleneck"),
        (["--stage", "logits"], "logits have maps of their own (--logits)"),
        (["--stage", "bottleneck", "--channel", "16"], "channel: bottleneck has 16 channels, 0 to 15, got 16"),
        (["--stage", "bottleneck", "--channel", "-1"], "channel: bottleneck has 16 channels, 0 to 15, got -1"),
    ],
)
def test_a_stage_or_channel_that_a_network_does_not_have_is_refused_where_no_segmentation_is_kept(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["maps", str(ball_run.checkpoint), str(ball_run.data), f"--checkpoints={tmp_path}", *options]) == 1
    assert message in capsys.readouterr().err


def test_maps_of_a_data_set_without_kept_segmentations_say_how_to_make_some(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(ball_run.checkpoint), str(ball_run.data)]
    assert main(["maps", *arguments, f"--checkpoints={tmp_path}", "--stage", "bottleneck", "--json"]) == 0
    printed = capsys.readouterr()
    assert loads_strict(printed.out) == {"subjects": {}}
    assert f"make some: python -m core evaluate {' '.join(arguments)} --keep" in printed.err
