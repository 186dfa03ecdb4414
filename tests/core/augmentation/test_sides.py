"""Left and right labels are exchanged in mirrored sub-volumes, wherever they are mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from core.augmentation.augmenter import Augmenter
from core.augmentation.sides import SideSwap
from core.sampling.patches import PatchLocation
from tests.support.augmentation import SPATIAL, config, generator, on_cpu

PAIRS = ((1, 3), (2, 5))
SIZE = (8, 7, 6)
LOCATIONS = [PatchLocation(0, (n, 2, 1)) for n in range(6)]


def labels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 7, shape, generator=generator()).to(torch.uint8)


def exchanged(label: torch.Tensor) -> torch.Tensor:
    table = torch.tensor([0, 3, 5, 1, 4, 2, 6], dtype=torch.uint8)
    return table[label.long()]


def test_pairs_are_exchanged_in_mirrored_sub_volumes_alone() -> None:
    label = labels(3, 5, 4, 3)
    before = label.clone()
    swapped = SideSwap(PAIRS)(label, [True, False, True])
    assert swapped.dtype == torch.uint8 and torch.equal(label, before)
    assert torch.equal(swapped[1], label[1])
    assert torch.equal(swapped[[0, 2]], exchanged(label[[0, 2]]))


def test_other_values_stay() -> None:
    label = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8)
    swapped = SideSwap(((1, 2),))(label, [True]).flatten().tolist()
    assert swapped == [0, 2, 1, *range(3, 256)]


def test_nothing_to_do_returns_the_same_tensor() -> None:
    label = labels(2, 3, 3, 3)
    assert SideSwap(())(label, [True, True]) is label
    assert SideSwap(PAIRS)(label, [False, False]) is label


@pytest.mark.parametrize("options", [dict(flip=1.0), dict(flip=0.5), SPATIAL["everything"]])
@pytest.mark.parametrize("batched", [False, True])
def test_the_augmenter_swaps_what_it_mirrors(options: dict[str, Any], batched: bool) -> None:
    """With and without warp, one by one (CPU) and in a batch (GPU); nothing else changes."""
    label = labels(14, 12, 10)
    subjects = on_cpu(np.random.default_rng(0).normal(size=(2, 14, 12, 10)), label.numpy())
    plain, swapping = Augmenter(config(**options), SIZE), Augmenter(config(**options), SIZE, PAIRS)
    params = plain.draw(LOCATIONS, 2, generator(1))
    assert any(params.flips) and (options["flip"] == 1 or not all(params.flips))
    regions = subjects.crop(params.locations, params.region)
    name = "_apply_batched" if batched else "apply"
    image, unswapped = getattr(plain, name)(*regions, params)
    same_image, swapped = getattr(swapping, name)(*regions, params)
    assert torch.equal(image, same_image)
    for n, mirrored in enumerate(params.flips):
        assert torch.equal(swapped[n], exchanged(unswapped[n]) if mirrored else unswapped[n])


def test_random_draws_do_not_depend_on_pairs() -> None:
    draws = [Augmenter(config(flip=0.5), SIZE, pairs).draw(LOCATIONS, 1, generator(3)) for pairs in ((), PAIRS)]
    assert draws[0] == draws[1]
