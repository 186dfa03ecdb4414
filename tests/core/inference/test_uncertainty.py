"""Uncertainty of a segmentation: entropies by hand, passes of a mirroring network and of an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from core.checkpointing.checkpoint import Checkpoint, build_network, save
from core.checkpointing.ensemble import save_ensemble
from core.checkpointing.ensemble_metadata import Member
from core.inference.ensemble_predictor import open_predictor
from core.inference.logit_volume import BACKGROUND_LOGIT
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.sliding_window import FOREGROUND_MARGIN
from core.inference.subject_image import SubjectImage
from core.inference.uncertainty import (
    LOGIT_STORED,
    PassUncertainty,
    PredictionMaps,
    entropy,
    largest_entropy,
    map_kinds,
)
from tests.support.balls import SPACING_MM, balls
from tests.support.checkpoint_files import checkpoint_metadata
from tests.support.ensemble_members import two_members, write_member

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def voxels(*columns: tuple[float, ...]) -> np.ndarray:
    """Probabilities of voxels, shape (channel, voxel, 1, 1)."""
    return np.array(columns, np.float32).T[..., None, None]


def test_entropy_of_classes_by_hand() -> None:
    probabilities = voxels((0.25,) * 4, (0.5, 0.5, 0, 0), (0.5, 0.25, 0.125, 0.125), (0, 1, 0, 0), (0.9, 0.1, 0, 0))
    bits = entropy(probabilities)
    assert bits.dtype == np.float32 and bits.shape == (5, 1, 1)
    np.testing.assert_allclose(bits.ravel(), [2, 1, 1.75, 0, 0.468996], atol=1e-6)
    assert bits.max() == largest_entropy(4, overlapping=False) == 2


def test_entropy_of_regions_is_the_mean_of_their_binary_entropies() -> None:
    bits = entropy(voxels((0.5, 0.5), (0.5, 1), (0.25, 0.75), (0, 1)), overlapping=True)
    np.testing.assert_allclose(bits.ravel(), [1, 0.5, 0.811278, 0], atol=1e-6)


def test_mutual_information_is_what_passes_contradict_each_other() -> None:
    passes = PassUncertainty(overlapping=False)
    first, second = voxels((1, 0), (0.5, 0.5), (0.9, 0.1), (1, 0)), voxels((0, 1), (0.5, 0.5), (0.1, 0.9), (1, 0))
    passes.add(first)
    passes.add(second)
    maps = passes.of_mean((first + second) / 2, first)
    np.testing.assert_allclose(maps.uncertainty.ravel(), [1, 1, 1, 0], atol=1e-6)
    assert maps.mutual_information is not None and maps.passes == 2
    np.testing.assert_allclose(maps.mutual_information.ravel(), [1, 0, 1 - 0.468996, 0], atol=1e-6)


def test_kinds_of_maps_follow_from_channels_and_passes() -> None:
    kinds = map_kinds(("background", "CSF", "GM", "WM"), overlapping=False, passes=2, logits=False)
    assert [kind.name for kind in kinds] == [
        "uncertainty", "mutual information", "probability of CSF", "probability of GM", "probability of WM"
    ]  # fmt: skip
    assert [kind.high for kind in kinds] == [2, 1, 100, 100, 100]
    regions = map_kinds(("whole tumour", "core"), overlapping=True, passes=1, logits=False)
    assert [(kind.name, kind.high, kind.channel) for kind in regions] == [
        ("uncertainty", 1, None), ("probability of whole tumour", 100, 0), ("probability of core", 100, 1)
    ]  # fmt: skip
    with_logits = map_kinds(("background", "CSF"), overlapping=False, passes=1, logits=True)
    assert [(kind.name, kind.low, kind.high, kind.unit) for kind in with_logits[2:]] == [
        ("logit of background", -20, 20, "logit"), ("logit of CSF", -20, 20, "logit")
    ]  # fmt: skip
    assert BACKGROUND_LOGIT <= LOGIT_STORED, "of voxels that no network sees"


def known_network(folder: Path, logits: tuple[float, ...], **values: Any) -> Path:
    """A checkpoint whose network gives every voxel the same logits: no weight in the last layer, but a bias."""
    metadata = checkpoint_metadata(sub_volume=(8, 8, 8), **values)
    torch.manual_seed(0)
    weights = dict(build_network(metadata).state_dict())
    weights["classifier.weight"] = torch.zeros_like(weights["classifier.weight"])
    weights["classifier.bias"] = torch.tensor(logits)
    save(folder / "known.safetensors", Checkpoint(metadata, weights))
    return folder / "known.safetensors"


@pytest.mark.parametrize(("crop", "seen"), [(False, 12 + FOREGROUND_MARGIN), (True, 12)])
def test_logits_of_known_weights_and_where_no_network_sees_the_image(tmp_path: Path, crop: bool, seen: int) -> None:
    path = known_network(tmp_path, (1.5, 3.25, -7.0), crop=crop)
    image = np.random.default_rng(0).normal(100, 20, (2, 24, 10, 9)).astype(np.float32)
    image[:, 12:] = 0
    overrides = InferenceOverrides(maps=True, logits=True, precision="fp32", mirror=True)
    maps = Predictor(path, overrides).segment_in_detail(SubjectImage(image, (1, 1, 1))).maps
    assert maps is not None and maps.logits is not None and maps.logits.dtype == np.float32
    np.testing.assert_allclose(np.moveaxis(maps.logits[:, :seen], 0, -1) - (1.5, 3.25, -7.0), 0, atol=1e-5)
    np.testing.assert_array_equal(np.unique(maps.logits[0, seen:]), BACKGROUND_LOGIT)
    np.testing.assert_array_equal(np.unique(maps.logits[1:, seen:]), 0)
    kinds = map_kinds(("background", "CSF", "GM"), overlapping=False, passes=2, logits=True)
    assert [kind.values(maps)[0, 0, 0] for kind in kinds if kind.unit == "logit"] == [1.5, 3.25, -7.0]  # type: ignore[index]


@pytest.mark.slow
def test_softmax_of_the_logits_is_the_probability_and_passes_are_averaged_as_logits(ball_run: BallRun) -> None:
    image, _ = balls(81)
    subject = SubjectImage(image, SPACING_MM)

    def maps_of(one: SubjectImage, mirror: bool) -> PredictionMaps:
        overrides = InferenceOverrides(mode="tiles", mirror=mirror, maps=True, logits=True, precision="fp32")
        found = Predictor(ball_run.checkpoint, overrides).segment_in_detail(one).maps
        assert found is not None and found.logits is not None
        return found

    both, first = maps_of(subject, mirror=True), maps_of(subject, mirror=False)
    second = maps_of(SubjectImage(image[:, ::-1].copy(), SPACING_MM), mirror=False)
    assert both.logits is not None and first.logits is not None and second.logits is not None
    for one in (both, first):
        assert one.logits is not None
        np.testing.assert_allclose(softmax(one.logits, axis=0), one.probabilities, atol=1e-6)
    np.testing.assert_allclose(both.logits, (first.logits + second.logits[:, ::-1]) / 2, atol=1e-4)
    assert np.abs(both.logits - first.logits).max() > 0.05, "else the test says nothing"


@pytest.mark.slow
def test_passes_of_a_mirroring_network_are_the_image_and_the_mirrored_image(ball_run: BallRun) -> None:
    image, _ = balls(81)  # bright on the left, dark on the right
    subject = SubjectImage(image, SPACING_MM)
    mirroring = Predictor(ball_run.checkpoint, InferenceOverrides(mirror=True, maps=True, precision="fp32"))
    found = mirroring.segment_in_detail(subject)
    plain = InferenceOverrides(mirror=True, precision="fp32")
    np.testing.assert_array_equal(found.labels, Predictor(ball_run.checkpoint, plain).segment(subject))
    one_pass = Predictor(ball_run.checkpoint, InferenceOverrides(mirror=False, maps=True, precision="fp32"))
    first = one_pass.probabilities(subject)
    second = one_pass.probabilities(SubjectImage(image[:, ::-1].copy(), SPACING_MM))[:, ::-1]
    assert found.maps is not None and found.maps.mutual_information is not None and found.maps.passes == 2
    total = entropy((first + second) / 2)
    np.testing.assert_allclose(found.maps.uncertainty, total, atol=1e-4)
    between = total - (entropy(first) + entropy(second)) / 2
    np.testing.assert_allclose(found.maps.mutual_information, between, atol=1e-4)
    assert between.max() > 0.005, "else the test says nothing"
    np.testing.assert_array_equal(found.maps.probabilities.argmax(axis=0), found.labels)
    single = one_pass.segment_in_detail(subject)
    assert single.maps is not None and single.maps.mutual_information is None
    np.testing.assert_array_equal(single.labels, one_pass.segment(subject))
    np.testing.assert_allclose(single.maps.uncertainty, entropy(first), atol=1e-6)


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    return two_members(tmp_path)


@pytest.mark.slow
def test_passes_of_an_ensemble_are_its_members_on_the_grid_of_the_image(members: list[Member], tmp_path: Path) -> None:
    members.append(write_member(tmp_path, "three", checkpoint_metadata(sub_volume=(8, 8, 8)), 3))
    save_ensemble(tmp_path / "all.safetensors", members)
    image = SubjectImage(np.random.default_rng(0).normal(100, 20, (2, 20, 22, 18)).astype(np.float32), (1, 1, 1))
    predictor = open_predictor([tmp_path / "all.safetensors"], InferenceOverrides(maps=True, logits=True))
    found = predictor.segment_in_detail(image)
    single = [Predictor(member.path).probabilities(image) for member in members]  # the second one resamples to 2 mm
    mean = np.mean(single, axis=0)
    assert found.maps is not None and found.maps.mutual_information is not None and found.maps.passes == 3
    np.testing.assert_allclose(found.maps.probabilities, mean, atol=1e-5)
    np.testing.assert_allclose(found.maps.uncertainty, entropy(mean), atol=1e-4)
    between = entropy(mean) - np.mean([entropy(one) for one in single], axis=0)
    np.testing.assert_allclose(found.maps.mutual_information, between, atol=1e-4)
    assert found.disagreement is not None and between.max() > 0.005
    np.testing.assert_array_equal(found.labels, open_predictor([tmp_path / "all.safetensors"]).segment(image))
    assert found.maps.logits is None, "probabilities are averaged, not logits"
