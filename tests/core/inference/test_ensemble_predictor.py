"""Segmentation with an ensemble: the mean of the members' probabilities, on the grid of the image."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import load, save
from core.checkpointing.ensemble import save_ensemble
from core.checkpointing.ensemble_metadata import Member
from core.checkpointing.file_header import store_postprocessing
from core.checkpointing.metadata import REGIONS
from core.errors import CheckpointError, DeviceError
from core.imaging.postprocessing import ClassRule, Postprocessing
from core.inference import ensemble_predictor
from core.inference.ensemble_predictor import EnsemblePredictor, open_predictor, pairwise_disagreement
from core.inference.overflow import NonFiniteLogitsError
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from tests.support.checkpoint_files import checkpoint_metadata
from tests.support.ensemble_members import two_members, write_member

SPACING_MM = (1.0, 1.0, 1.0)  # the first member resamples to 1 x 1 x 1.5 mm, the second one to 2 mm


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    return two_members(tmp_path)


@pytest.fixture
def file(members: list[Member], tmp_path: Path) -> Path:
    save_ensemble(tmp_path / "both.safetensors", members)
    return tmp_path / "both.safetensors"


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, (2, 20, 22, 18)).astype(np.float32)


@pytest.mark.slow
def test_probabilities_are_the_mean_of_those_of_the_members(members: list[Member], file: Path) -> None:
    predictor = open_predictor([file])
    single = [Predictor(member.path).probabilities(SubjectImage(image(), SPACING_MM)) for member in members]
    mean = (single[0] + single[1]) / 2
    assert mean.dtype == np.float32 and mean.shape == (3, 20, 22, 18)
    np.testing.assert_allclose(mean.sum(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(predictor.probabilities(SubjectImage(image(), SPACING_MM)), mean, atol=1e-6)
    segmentation = predictor.segment_in_detail(SubjectImage(image(), SPACING_MM))
    labels, disagreement = segmentation.labels, segmentation.disagreement
    np.testing.assert_array_equal(labels, mean.argmax(axis=0))
    assert disagreement is not None
    np.testing.assert_array_equal(disagreement, single[0].argmax(axis=0) != single[1].argmax(axis=0))
    assert 0 < disagreement.mean() < 1, "else the test says nothing"
    of_files = open_predictor([member.path for member in members])
    np.testing.assert_array_equal(of_files.segment(SubjectImage(image(), SPACING_MM)), labels)


def test_regions_of_an_ensemble_are_painted_where_the_mean_is_above_one_half(tmp_path: Path) -> None:
    """Members with other normalisation, too: each prepares the image in its own way."""
    whole = {"name": "whole", "classes": ["CSF", "GM"], "painted": "CSF"}
    core = {"name": "core", "classes": ["GM"], "painted": "GM"}
    written = []
    for seed, method in enumerate(("z_score", "max_min"), 1):
        metadata = checkpoint_metadata(sub_volume=(8, 16, 8), targets="regions", normalisation=method)
        metadata = replace(metadata, dataset={**metadata.dataset, REGIONS: [whole, core]})
        written.append(write_member(tmp_path, f"net{seed}", metadata, seed))
    predictor = open_predictor([member.path for member in written])
    subject = SubjectImage(image(), SPACING_MM)
    single = [Predictor(member.path).probabilities(subject) for member in written]
    mean = (single[0] + single[1]) / 2
    assert mean.shape == (2, 20, 22, 18)
    np.testing.assert_allclose(predictor.probabilities(subject), mean, atol=1e-6)
    expected = np.where(mean[1] > 0.5, 2, np.where(mean[0] > 0.5, 1, 0))
    assert len(np.unique(expected)) == 3, "else the test says nothing"
    near = (np.abs(mean - 0.5) < 1e-6).any(axis=0)
    np.testing.assert_array_equal(predictor.segment(subject)[~near], expected[~near])


@pytest.mark.slow
def test_weights_are_in_memory_one_member_at_a_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = open_predictor([file])
    assert isinstance(predictor, EnsemblePredictor)
    in_memory: list[int] = []

    def progress(done: int, total: int) -> None:
        in_memory.append(sum(hasattr(member, "model") for member in predictor._predictors))
        calls.append((done, total))

    calls: list[tuple[int, int]] = []
    predictor.segment(SubjectImage(image(), SPACING_MM), progress)
    assert set(in_memory) == {1}
    assert calls == sorted(calls) and calls[-1] == (200, 200)
    monkeypatch.setattr(ensemble_predictor, "free_bytes", lambda device: 1000)
    with pytest.raises(DeviceError, match="the probabilities of 3 classes take"):
        predictor.segment(SubjectImage(image(), SPACING_MM))


@pytest.mark.slow
def test_a_member_whose_values_are_not_finite_is_named(members: list[Member]) -> None:
    checkpoint = load(members[1].path)
    broken = {k: torch.full_like(v, torch.nan) if v.is_floating_point() else v for k, v in checkpoint.weights.items()}
    save(members[1].path, replace(checkpoint, model=broken, average={}))
    predictor = open_predictor([member.path for member in members])
    with pytest.raises(NonFiniteLogitsError, match=r"^two: the network gives values .* that are not finite"):
        predictor.segment(SubjectImage(image(), SPACING_MM))


def test_postprocessing_of_the_ensemble_is_applied_and_can_be_left_out(file: Path) -> None:
    plain = open_predictor([file]).segment(SubjectImage(image(), SPACING_MM))
    store_postprocessing(file, Postprocessing({"CSF": ClassRule(largest=True)}), {})
    treated = open_predictor([file])
    assert treated.settings()["postprocessing"]["CSF"]["largest"] is True
    result = treated.segment(SubjectImage(image(), SPACING_MM))
    np.testing.assert_array_equal(result, treated.postprocess(plain, math.prod(SPACING_MM) / 1000))
    assert not np.array_equal(result, plain)
    untreated = open_predictor([file], InferenceOverrides(postprocess=False))
    np.testing.assert_array_equal(untreated.segment(SubjectImage(image(), SPACING_MM)), plain)
    assert not untreated.metadata.postprocessing and untreated.settings()["postprocessing"] == {}


def test_held_out_model_has_the_members_that_have_not_seen_the_subject(members: list[Member], tmp_path: Path) -> None:
    third = write_member(
        tmp_path, "three", replace(checkpoint_metadata(sub_volume=(8, 8, 8)), split={"train": ["a", "b"]}), 3
    )
    predictor = open_predictor([*(member.path for member in members), third.path])
    assert isinstance(predictor, EnsemblePredictor)
    assert predictor.held_out("b") is None and predictor.held_out("x") is predictor
    two = predictor.held_out("c")
    assert isinstance(two, EnsemblePredictor) and [m.name for m in two.members] == ["one", "three"]
    one = predictor.held_out("a")
    assert one is not None and one.path == members[1].path and hasattr(one, "model")


def test_file_of_one_network_is_a_single_network(members: list[Member]) -> None:
    predictor = open_predictor([members[0].path])
    assert type(predictor) is Predictor
    with pytest.raises(CheckpointError, match="got one twice"):
        open_predictor([members[0].path, members[0].path])


def test_settings_state_what_members_share_and_where_they_differ(members: list[Member], file: Path) -> None:
    settings = open_predictor([file]).settings()
    assert settings["mode"] == "tiles" and settings["device"] == "cpu" and "resampled_mm" not in settings
    assert [member["name"] for member in settings["members"]] == ["one", "two"]
    assert [member["resampled_mm"] for member in settings["members"]] == [[1, 1, 1.5], [2, 2, 2]]


def test_pairwise_disagreement() -> None:
    votes = np.zeros((3, 4, 1, 1), np.uint8)
    votes[:, :, 0, 0] = np.array([[5, 0, 0], [4, 1, 0], [3, 2, 0], [3, 1, 1]]).T
    np.testing.assert_allclose(pairwise_disagreement(votes, 5).ravel(), [0, 0.4, 0.6, 0.7], atol=1e-6)
