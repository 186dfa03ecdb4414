"""Soft skeletons and clDice against masks by hand, and against MONAI."""

from __future__ import annotations

import pytest
import torch

from core.config import LossConfig
from core.losses.build import build_loss
from core.losses.cldice import cldice_of
from core.losses.labelled import Labelled
from core.losses.soft_skeleton import soft_skeleton
from tests.support.loss_cases import confident_logits, random_case
from tests.support.peer_packages import monai_or_skip


def tube(length: int = 12, radius: int = 1) -> torch.Tensor:
    """A mask (1, 1, length, 9, 9) of a square rod along i."""
    mask = torch.zeros(1, 1, length, 9, 9)
    mask[..., 4 - radius : 5 + radius, 4 - radius : 5 + radius] = 1
    return mask


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_skeleton_of_a_rod_has_its_centre_line_and_no_voxel_outside(radius: int) -> None:
    mask = tube(radius=radius)
    skeleton = soft_skeleton(mask, iterations=3)
    assert (skeleton[..., 4, 4] == 1).all()
    assert not (skeleton * (1 - mask)).any()
    assert skeleton.sum() <= 12 * (1 + 4 * radius), "the centre line, and for thick rods the diagonals of the section"


def test_too_few_erosions_miss_the_centre_line_of_a_thick_rod() -> None:
    assert not soft_skeleton(tube(radius=3), iterations=2)[..., 4, 4].any()
    assert soft_skeleton(tube(radius=3), iterations=3)[..., 4, 4].all()


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [1, 3])
def test_skeleton_and_gradient_match_monai(iterations: int) -> None:
    peers = monai_or_skip("monai.losses.cldice")
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 9, 8, 7, generator=generator).requires_grad_()
    weight = torch.rand(image.shape, generator=generator)
    found, peer = soft_skeleton(image, iterations), peers.soft_skel(image, iterations)
    torch.testing.assert_close(found, peer, rtol=0, atol=0)
    gradients = [torch.autograd.grad((s * weight).sum(), image)[0] for s in (found, peer)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_matches_monai_for_one_foreground_class() -> None:
    peers = monai_or_skip("monai.losses")
    logits, target = random_case(shape=(2, 2, 8, 7, 6))
    peer = peers.SoftclDiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth=1e-9, smooth_nr=1.0, smooth_dr=1.0
    )(logits, target[:, None])
    p = torch.softmax(logits, 1)
    torch.testing.assert_close(cldice_of(p, Labelled.of(logits, target), 3), peer, rtol=1e-5, atol=1e-6)


def test_a_gap_costs_more_than_a_thinner_tube_of_as_many_missing_voxels() -> None:
    target = tube(length=18, radius=1)[:, 0].long()
    gap, thin = target.clone(), target.clone()
    gap[:, 8:10] = 0  # 2 sections of 9 voxels
    thin[:, :, 3, 3] = 0  # 18 voxels of an edge
    assert (target - gap).sum() == (target - thin).sum() == 18
    dice, cldice = LossConfig(loss="dice"), LossConfig(loss="cldice", cldice_weight=1.0)
    values = {
        c.loss: [build_loss(c)(confident_logits(m, 2), target).item() for m in (gap, thin)] for c in (dice, cldice)
    }
    assert values["dice"][0] == pytest.approx(values["dice"][1], rel=1e-3)
    assert values["cldice"][0] > 3 * max(values["cldice"][1], 1e-3)


def test_share_mixes_dice_and_cldice() -> None:
    logits, target = random_case()
    shares = [build_loss(LossConfig(loss="cldice", cldice_weight=w))(logits, target).item() for w in (0, 0.25, 1)]
    assert shares[0] == pytest.approx(build_loss(LossConfig(loss="dice"))(logits, target).item(), abs=1e-6)
    assert shares[1] == pytest.approx(0.75 * shares[0] + 0.25 * shares[2], abs=1e-6)
