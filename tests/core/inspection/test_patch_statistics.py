"""Places laid open: those of the sampler that training uses, and what numpy counts in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.config import SamplingConfig
from core.errors import ConfigError
from core.inspection.patch_statistics import draws
from core.sampling.patches import PatchSampler
from core.types import TrainingSubject

SIZE = (8, 10, 9)


def label() -> np.ndarray:
    """A large structure, and a small one of a second class in a corner."""
    found = np.zeros((30, 32, 28), np.uint8)
    found[8:20, 8:20, 8:20] = 1
    found[24:27, 26:29, 22:25] = 2
    return found


@pytest.mark.parametrize(("foreground", "threshold"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.3)])
def test_the_places_are_the_samplers_own(foreground: float, threshold: float) -> None:
    found = draws(label(), 3, SIZE, foreground, threshold, 40, seed=5)
    subject = TrainingSubject("x", label()[None].astype(np.float32), label(), (1.0, 1.0, 1.0))
    sampler = PatchSampler([subject], SIZE, SamplingConfig(foreground=foreground, threshold=threshold), 3)
    expected = [place.start for place in sampler.draw(40, torch.Generator().manual_seed(5))]
    assert found.starts.tolist() == [list(start) for start in expected]


def test_what_lies_in_them_is_counted() -> None:
    found = draws(label(), 3, SIZE, 0.9, 0.0, 60)
    for start, centre, shares in zip(found.starts, found.centres, found.shares, strict=True):
        i, j, k = (slice(s, s + n) for s, n in zip(start, SIZE, strict=True))
        box = label()[i, j, k]
        assert box.shape == SIZE
        assert centre == box[SIZE[0] // 2, SIZE[1] // 2, SIZE[2] // 2]
        np.testing.assert_allclose(shares, np.bincount(box.ravel(), minlength=3) / box.size)


def test_centred_places_hit_a_rare_class_far_more_often() -> None:
    anywhere, centred = (draws(label(), 3, SIZE, share, 0.0, 400) for share in (0.0, 0.9))
    assert (anywhere.centres == 2).mean() < 0.02
    assert 0.35 < (centred.centres == 2).mean() < 0.55  # nine in ten, dealt evenly to two classes
    assert centred.shares[:, 2].mean() > 5 * anywhere.shares[:, 2].mean()


def test_a_sub_volume_larger_than_the_subject_has_air_around_it() -> None:
    found = draws(label()[:, :, 20:26], 3, (8, 8, 12), 0.0, 0.0, 10)
    assert (found.starts[:, 2] <= 0).all() and (found.starts[:, 2] >= -6).all()
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    assert (found.shares[:, 0] >= 0.5).all()


def test_a_rule_that_no_run_could_have() -> None:
    with pytest.raises(ConfigError, match="foreground"):
        draws(label(), 3, SIZE, 1.5, 0.0, 1)
    with pytest.raises(ConfigError, match="sub_volume"):
        draws(label(), 3, (2, 8, 8), 0.5, 0.0, 1)
