"""Statistics of drawn sub-volumes: positions of the training sampler, class counts against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.config import SamplingConfig
from core.inspection.patch_statistics import draw_patch_statistics
from core.labels import IGNORE_INDEX
from core.sampling.patches import PatchSampler
from core.types import TrainingSubject

SIZE = (8, 10, 9)


def make_label() -> np.ndarray:
    """A large structure of class 1, and a small one of class 2 in a corner."""
    label = np.zeros((30, 32, 28), np.uint8)
    label[8:20, 8:20, 8:20] = 1
    label[24:27, 26:29, 22:25] = 2
    return label


@pytest.mark.parametrize(("foreground", "threshold"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.3)])
def test_positions_equal_those_of_the_training_sampler(foreground: float, threshold: float) -> None:
    label, sampling = make_label(), SamplingConfig(sub_volume=SIZE, foreground=foreground, threshold=threshold)
    statistics = draw_patch_statistics(label, 3, sampling, 40, seed=5)
    subject = TrainingSubject("x", label[None].astype(np.float32), label, (1.0, 1.0, 1.0))
    sampler = PatchSampler([subject], SIZE, sampling, 3)
    expected = [list(place.start) for place in sampler.draw(40, torch.Generator().manual_seed(5))]
    assert statistics.starts.tolist() == expected


def test_class_shares_and_centre_classes_equal_numpy_counts() -> None:
    label = make_label()
    drawn = draw_patch_statistics(label, 3, SamplingConfig(sub_volume=SIZE, foreground=0.9), 60)
    for start, centre_class, shares in zip(drawn.starts, drawn.centre_classes, drawn.class_shares, strict=True):
        i, j, k = (slice(s, s + n) for s, n in zip(start, SIZE, strict=True))
        patch = label[i, j, k]
        assert patch.shape == SIZE
        assert centre_class == patch[SIZE[0] // 2, SIZE[1] // 2, SIZE[2] // 2]
        np.testing.assert_allclose(shares, np.bincount(patch.ravel(), minlength=3) / patch.size)


def test_foreground_sampling_centres_on_a_rare_class_far_more_often() -> None:
    uniform, centred = (
        draw_patch_statistics(make_label(), 3, SamplingConfig(sub_volume=SIZE, foreground=share), 400)
        for share in (0.0, 0.9)
    )
    assert (uniform.centre_classes == 2).mean() < 0.02
    assert 0.35 < (centred.centre_classes == 2).mean() < 0.55  # 90 %, divided evenly between two classes
    assert centred.class_shares[:, 2].mean() > 5 * uniform.class_shares[:, 2].mean()


def test_padding_of_a_sub_volume_larger_than_the_subject_is_background() -> None:
    sampling = SamplingConfig(sub_volume=(8, 8, 12), foreground=0.0)
    drawn = draw_patch_statistics(make_label()[:, :, 20:26], 3, sampling, 10)
    assert (drawn.starts[:, 2] <= 0).all() and (drawn.starts[:, 2] >= -6).all()
    np.testing.assert_allclose(drawn.class_shares.sum(axis=1), 1)
    assert (drawn.class_shares[:, 0] >= 0.5).all()


def test_shares_are_of_the_voxels_that_are_not_ignored() -> None:
    label = make_label()
    label[:, :, 14:] = IGNORE_INDEX
    drawn = draw_patch_statistics(label, 3, SamplingConfig(sub_volume=SIZE), 40)
    for start, shares in zip(drawn.starts, drawn.class_shares, strict=True):
        i, j, k = (slice(s, s + n) for s, n in zip(start, SIZE, strict=True))
        patch = label[i, j, k]
        counted = patch[patch != IGNORE_INDEX]
        np.testing.assert_allclose(shares, np.bincount(counted, minlength=3) / counted.size)
