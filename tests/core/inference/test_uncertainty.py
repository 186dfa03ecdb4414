"""Uncertainty of a segmentation: entropies by hand, passes of a mirroring network and of an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.ensemble import save_ensemble
from core.checkpointing.ensemble_metadata import Member
from core.inference.ensemble_predictor import open_predictor
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.inference.uncertainty import PassUncertainty, entropy, largest_entropy, map_kinds
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
    kinds = map_kinds(("background", "CSF", "GM", "WM"), overlapping=False, passes=2)
    assert [kind.name for kind in kinds] == [
        "uncertainty", "mutual information", "probability of CSF", "probability of GM", "probability of WM"
    ]  # fmt: skip
    assert [kind.high for kind in kinds] == [2, 1, 100, 100, 100]
    regions = map_kinds(("whole tumour", "core"), overlapping=True, passes=1)
    assert [(kind.name, kind.high, kind.channel) for kind in regions] == [
        ("uncertainty", 1, None), ("probability of whole tumour", 100, 0), ("probability of core", 100, 1)
    ]  # fmt: skip


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
    predictor = open_predictor([tmp_path / "all.safetensors"], InferenceOverrides(maps=True))
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
