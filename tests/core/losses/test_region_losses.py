"""Losses of regions, which may overlap: values by hand, gradients, ignored voxels, and refusals."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from core.choices import LossName
from core.config import LossConfig
from core.errors import ConfigError
from core.labels import IGNORE_INDEX
from core.losses import LOSSES
from core.losses.build import LossFacts, build_loss
from core.losses.targets import resolve_targets
from core.regions import region_space

NAMES = [name for name in get_args(LossName) if LOSSES[name].overlapping]
REGIONS = ((1, 2, 3), (1, 3), (3,))
CLASSES = ("background", "a", "b", "c")
SPACE = region_space({"abc": ("a", "b", "c"), "ac": ("a", "c"), "c": ("c",)}, {}, CLASSES)


def loss_of(name: LossName, logits: Tensor, target: Tensor, ignore: bool = False, **options: float) -> Tensor:
    config = LossConfig(loss=name, dice_smooth=0.0, **options)  # type: ignore[arg-type]
    return build_loss(config, ignore, LossFacts(regions=REGIONS))(logits, target)


def case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 4, 5, 6, generator=generator), torch.randint(0, 4, (2, 4, 5, 6), generator=generator)


def test_values_by_hand() -> None:
    """Two voxels, of the classes b (in the first region only) and c (in all three); every probability is 3/4."""
    logits, target = torch.full((1, 3, 1, 1, 2), math.log(3)), torch.tensor([2, 3]).view(1, 1, 1, 2)
    inside, outside = -math.log(3 / 4), -math.log(1 / 4)
    bce = (4 * inside + 2 * outside) / 6
    dice = 1 - (2 * 1.5 / (1.5 + 2) + 2 * (2 * 0.75 / (1.5 + 1))) / 3
    focal = (4 * (1 / 4) ** 2 * inside + 2 * (3 / 4) ** 2 * outside) / 6
    for name, expected in (("ce", bce), ("dice", dice), ("focal", focal), ("dice_focal", dice + focal)):
        assert float(loss_of(name, logits, target, focal_gamma=2.0)) == pytest.approx(expected, rel=1e-5), name  # type: ignore[arg-type]
    for name in ("dice_ce", "bce_dice"):
        assert float(loss_of(name, logits, target)) == pytest.approx(bce + dice, rel=1e-5)  # type: ignore[arg-type]


def test_cross_entropy_is_that_of_torch() -> None:
    logits, target = case()
    inside = torch.stack([torch.isin(target, torch.tensor(members)) for members in REGIONS], dim=1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, inside.float())
    assert torch.allclose(loss_of("ce", logits, target), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_finite_differences(name: LossName) -> None:
    logits, target = (part[:1, ..., :3, :3, :3] for part in case())
    logits.requires_grad_()
    if name == "vae":
        loss_of(name, logits.detach(), target)
        return
    (gradient,) = torch.autograd.grad(loss_of(name, logits, target), logits)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-2
    moved = [float(loss_of(name, (logits + sign * step * direction).detach(), target)) for sign in (1, -1)]
    assert (gradient * direction).sum().item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=0.05, abs=2e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vae"])
def test_perfect_regions_cost_nothing_and_ignored_voxels_do_not_count(name: LossName) -> None:
    _, target = case()
    inside = torch.stack([torch.isin(target, torch.tensor(members)) for members in REGIONS], dim=1)
    perfect = torch.where(inside, 30.0, -30.0)
    assert float(loss_of(name, perfect, target)) == pytest.approx(0, abs=1e-5)
    target[..., 3:] = IGNORE_INDEX
    wrong = torch.where(torch.arange(6) >= 3, -perfect, perfect)
    assert float(loss_of(name, wrong, target, ignore=True)) == pytest.approx(0, abs=1e-5)


def test_channels_must_be_the_regions() -> None:
    with pytest.raises(ValueError, match="expected logits of 3 regions, got 4 channels"):
        loss_of("dice", torch.zeros(1, 4, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.uint8))


def test_targets_are_resolved_for_data_set_and_loss() -> None:
    assert resolve_targets("auto", "dice_ce", SPACE) == "regions"
    assert resolve_targets("labels", "dice_ce", SPACE) == "labels"
    assert resolve_targets("auto", "dice_ce", None) == "labels"
    assert resolve_targets("auto", "weighted_ce", SPACE) == "labels"
    with pytest.raises(ConfigError, match=r"targets: expected labels for weighted_ce, .* one of the losses dice, "):
        resolve_targets("regions", "weighted_ce", SPACE)
    with pytest.raises(ConfigError, match="data set without regions"):
        resolve_targets("regions", "dice_ce", None)
    open_order = region_space({"abc": ("a", "b", "c")}, {}, CLASSES)
    assert resolve_targets("auto", "dice_ce", open_order) == "labels"
    with pytest.raises(ConfigError, match="state regions_class_order"):
        resolve_targets("regions", "dice_ce", open_order)
