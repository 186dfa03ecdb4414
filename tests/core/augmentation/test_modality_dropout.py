"""Modality dropout: which channels are left out, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from core.augmentation.augmenter import AugmentationParams, Augmenter, draw_kept
from core.config import AugmentConfig
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.types import TrainingSubject

LOCATIONS = [PatchLocation(0, (0, 0, 0))] * 4


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_share_of_left_out_channels_is_the_probability_and_one_is_always_kept() -> None:
    kept = torch.tensor(draw_kept(0.3, 20_000, 3, generator()))
    assert kept.any(dim=1).all()
    left_out = (~kept).float().mean(dim=0)
    expected = 0.3 - 0.3**3 / 3  # each is the one that is spared in a third of the cases in which all would be left out
    assert left_out.tolist() == pytest.approx([expected] * 3, abs=0.01)


def test_nothing_is_drawn_without_dropout_or_a_second_modality() -> None:
    chance = generator()
    assert draw_kept(0.0, 4, 3, chance) is None and draw_kept(0.5, 4, 1, chance) is None
    assert torch.equal(chance.get_state(), generator().get_state()), "deterministic runs stay what they were"


@pytest.mark.parametrize("warped", [False, True])
def test_left_out_and_missing_images_are_zero_whatever_else_changes(warped: bool) -> None:
    options: dict[str, Any] = {"intensity": 1.0, "noise": 0.5, "flip": 0.5, "affine": float(warped)}
    dropping = Augmenter(AugmentConfig(modality_dropout=0.5, **options), (8, 8, 8))
    plain = Augmenter(AugmentConfig(**options), (8, 8, 8))
    params = dropping.draw(LOCATIONS, 3, generator())
    assert params.kept is not None
    image = torch.randn(4, 3, *params.region, generator=generator())
    label = torch.randint(0, 3, (4, *params.region), generator=generator()).to(torch.uint8)
    image[1, 2] = 0.0  # the subject lacks it
    before = image.clone()
    augmented, same = dropping.apply(image, label, params)
    expected, labels = plain.apply(image, label, plain.draw(LOCATIONS, 3, generator()))
    assert torch.equal(same, labels) and torch.equal(image, before), "the image that is cropped is not written to"
    for n, row in enumerate(params.kept):
        for channel, kept in enumerate(row):
            if kept and (n, channel) != (1, 2):
                assert torch.equal(augmented[n, channel], expected[n, channel])
            else:
                assert not augmented[n, channel].any()


def subjects_of(*present: tuple[bool, ...]) -> ResidentSubjects:
    """Subjects with images of noise, and of 0 where they have none."""
    made = []
    for number, has in enumerate(present):
        image = np.random.default_rng(number).normal(size=(len(has), 9, 9, 9)).astype(np.float32)
        image[~np.array(has)] = 0
        made.append(TrainingSubject(str(number), image, np.ones((9, 9, 9), np.uint8), (1.0, 1.0, 1.0)))
    return ResidentSubjects(made, torch.device("cpu"))


def params_of(subjects: ResidentSubjects, kept: list[list[bool]] | None) -> AugmentationParams:
    locations = [PatchLocation(n, (0, 0, 0)) for n in range(len(subjects))]
    return AugmentationParams(locations, (8, 8, 8), None, [], [], kept).of_present(subjects)


def test_a_missing_image_is_not_kept_and_something_is_always_left() -> None:
    whole, no_t2 = (True, True, True), (True, False, True)
    assert params_of(subjects_of(whole, whole), None).kept is None, "nothing changes where nothing is missing"
    assert params_of(subjects_of(whole, no_t2), None).kept == [list(whole), list(no_t2)]
    drawn = [[True, True, False], [False, True, False]]  # the second keeps T2 alone, of which there is no image
    assert params_of(subjects_of(whole, no_t2), drawn).kept == [drawn[0], [True, False, True]]


def test_noise_does_not_take_the_place_of_a_missing_image_without_dropout() -> None:
    subjects = subjects_of((True, False), (True, True))
    augment = Augmenter(AugmentConfig(intensity=1.0, noise=0.5), (8, 8, 8))
    image, _ = augment(subjects, [PatchLocation(n % 2, (0, 0, 0)) for n in range(6)], generator())
    assert not image[::2, 1].any() and image[::2, 0].any() and image[1::2].flatten(2).any(2).all()
