"""Distance maps against SciPy, and the boundary loss against values by hand and against MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from core.config import LossConfig
from core.labels import IGNORE_INDEX
from core.losses.boundary import boundary_of, signed_distances
from core.losses.build import LossFacts, build_loss
from core.losses.distance_maps import distance_to, inner_boundary
from core.losses.labelled import Labelled
from tests.support.loss_cases import confident_logits, from_probabilities, labels, random_case
from tests.support.peer_packages import monai_or_skip

CUBIC = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(7, 9, 5), (1, 1, 6), (12, 3, 4), (1, 1, 1)])
@pytest.mark.parametrize("spacing", [CUBIC, (0.7, 1.5, 3.0)])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_distances_match_scipy(shape: tuple[int, int, int], spacing: tuple[float, float, float], share: float) -> None:
    mask = torch.rand((2, 3, *shape), generator=torch.Generator().manual_seed(0)) < share
    mask[..., 0, 0, 0] = True
    found = distance_to(mask, spacing)
    for sample, distances in zip(mask.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = distance_transform_edt(~sample.numpy(), sampling=spacing)
        np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_distance_to_an_empty_mask_is_infinite() -> None:
    assert distance_to(torch.zeros(3, 4, 5, dtype=torch.bool), CUBIC).isinf().all()


def test_boundary_is_inside_and_not_at_the_border_of_the_array() -> None:
    mask = torch.zeros(5, 5, 5, dtype=torch.bool)
    mask[:, :, :3] = True
    expected = torch.zeros_like(mask)
    expected[:, :, 2] = True
    assert torch.equal(inner_boundary(mask, ~mask), expected)
    everything = torch.ones_like(mask)
    assert not inner_boundary(everything, ~everything).any()


def test_signed_distances_by_hand() -> None:
    target = torch.zeros(1, 1, 1, 7, dtype=torch.long)
    target[..., 1:5] = 1
    labelled = Labelled.of(torch.zeros(1, 2, 1, 1, 7), target)
    assert signed_distances(labelled, CUBIC).flatten().tolist() == [1, 0, -1, -1, 0, 1, 2]
    scale = 2 ** (1 / 3)  # of voxels of 1 x 1 x 2: their volume is 2
    assert signed_distances(labelled, (1.0, 1.0, 2.0)).flatten().tolist() == pytest.approx(
        [d * 2 / scale for d in (1, 0, -1, -1, 0, 1, 2)]
    )


def test_boundary_loss_by_hand() -> None:
    p = (0.1, 0.6, 0.9, 0.5, 0.7)
    logits = from_probabilities(*[(1 - x, x) for x in p]).transpose(2, 4)
    target = torch.tensor([0, 1, 1, 1, 0]).reshape(1, 1, 1, 5)
    labelled = Labelled.of(logits, target)
    value = boundary_of(torch.softmax(logits, 1), labelled, CUBIC)
    assert value.item() == pytest.approx((0.1 * 1 + (0.9 - 1) * -1 + 0.7 * 1) / 5, abs=1e-6)
    ignored = target.clone()
    ignored[..., 4] = IGNORE_INDEX
    value = boundary_of(torch.softmax(logits, 1), Labelled.of(logits, ignored, ignore=True), CUBIC)
    assert value.item() == pytest.approx((0.1 * 1 + (0.9 - 1) * -1 + (0.5 - 1) * -2) / 4, abs=1e-6)


def test_ignored_neighbours_are_no_boundary() -> None:
    target = torch.tensor([0, 1, 1, IGNORE_INDEX]).reshape(1, 1, 1, 4)
    labelled = Labelled.of(torch.zeros(1, 2, 1, 1, 4), target, ignore=True)
    assert signed_distances(labelled, CUBIC).flatten().tolist()[:3] == [1, 0, -1]


def test_class_without_boundary_has_no_boundary_loss() -> None:
    logits, _ = random_case()
    for target in (torch.zeros(2, 5, 6, 7, dtype=torch.long), torch.ones(2, 5, 6, 7, dtype=torch.long)):
        value = boundary_of(torch.softmax(logits, 1), Labelled.of(logits, target), CUBIC)
        assert value.item() == 0


def test_errors_weigh_as_much_as_they_are_far_away() -> None:
    target = labels(*[1] * 3, *[0] * 9)
    values = []
    for wrong in (3, 5, 11):
        claimed = target.clone()
        claimed[:, wrong] = 1
        p = torch.softmax(confident_logits(claimed, 2), 1)
        values.append(boundary_of(p, Labelled.of(confident_logits(claimed, 2), target), CUBIC).item())
    assert values == pytest.approx([1 / 12, 3 / 12, 9 / 12], abs=1e-5)


def test_levels_of_deep_supervision_measure_in_voxels_of_the_image() -> None:
    target = labels(1, 0, 0, 0)
    logits = torch.zeros(1, 2, 4, 1, 1)
    fine, coarse = (signed_distances(Labelled.of(logits, target, step=step), CUBIC) for step in (1, 4))
    torch.testing.assert_close(coarse, 4 * fine)


def test_spacing_of_the_data_is_used() -> None:
    logits, target = random_case()
    config = LossConfig(loss="boundary", boundary_weight=1.0)
    cubic, flat = (build_loss(config, facts=LossFacts(spacing_mm=mm))(logits, target) for mm in (CUBIC, (1, 1, 5)))
    doubled = build_loss(config, facts=LossFacts(spacing_mm=(2, 2, 2)))(logits, target)
    assert cubic != flat and math.isclose(cubic, doubled, rel_tol=1e-5)


@pytest.mark.slow
def test_gradient_matches_monai() -> None:
    """For a class in a half of the volume, where the distances inside agree: MONAI takes those to the outside, minus 1.

    The values differ by the constant that makes a perfect prediction 0.
    """
    peers = monai_or_skip("monai.losses")
    logits, _ = random_case(shape=(2, 2, 6, 7, 8))
    logits.requires_grad_()
    target = torch.zeros(2, 6, 7, 8, dtype=torch.long)
    target[:, :, :, 5:] = 1
    peer = peers.BoundaryLoss(include_background=False, to_onehot_y=True, softmax=True)(logits, target[:, None])
    value = boundary_of(torch.softmax(logits, 1), Labelled.of(logits, target), CUBIC)
    (gradient,), (peer_gradient,) = (torch.autograd.grad(v, logits) for v in (value, peer))
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-4, atol=1e-8)
    perfect = peers.BoundaryLoss(include_background=False, to_onehot_y=True, softmax=True)(
        confident_logits(target, 2, 200.0), target[:, None]
    )
    assert value.item() == pytest.approx((peer - perfect).item(), abs=1e-5)
