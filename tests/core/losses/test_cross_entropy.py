"""Cross-entropy, its weighted, binary and focal kin, against values by hand and against torch and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.config import LossConfig
from core.labels import IGNORE_INDEX
from core.losses.bce_dice import bce_dice
from core.losses.build import LossFacts, build_loss
from core.losses.class_weights import class_weights
from core.losses.dice import DiceOptions, dice_of
from core.losses.focal import focal
from core.losses.labelled import Labelled
from tests.support.loss_cases import from_probabilities, labels, random_case, value_and_gradient
from tests.support.peer_packages import monai_or_skip

WEIGHTS = (0.2, 0.5, 1.3, 2.0)
THREE_VOXELS = from_probabilities((0.8, 0.2), (0.6, 0.4), (0.1, 0.9))


def test_cross_entropy_by_hand() -> None:
    value = build_loss(LossConfig(loss="ce"))(THREE_VOXELS, labels(0, 1, 1))
    assert value.item() == pytest.approx(-math.log(0.8 * 0.4 * 0.9) / 3, abs=1e-6)


def test_weighted_cross_entropy_by_hand() -> None:
    loss = build_loss(LossConfig(loss="weighted_ce"), ignore=True, facts=LossFacts((0.5, 2.0)))
    value = loss(THREE_VOXELS, labels(0, 1, IGNORE_INDEX))
    assert value.item() == pytest.approx(-(0.5 * math.log(0.8) + 2 * math.log(0.4)) / 2.5, abs=1e-6)


def test_focal_by_hand() -> None:
    value = focal(Labelled.of(THREE_VOXELS, labels(0, 1, 1)), gamma=2.0)
    expected = -(0.2**2 * math.log(0.8) + 0.6**2 * math.log(0.4) + 0.1**2 * math.log(0.9)) / 3
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_binary_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).reshape(1, 2, 2, 1, 1)  # class, voxel
    labelled = Labelled.of(logits, labels(0, 1))
    p = torch.sigmoid(logits).flatten()
    bce = -(p[0].log() + (1 - p[1]).log() + (1 - p[2]).log() + p[3].log()) / 4
    options = DiceOptions()
    dice = dice_of(torch.sigmoid(logits), labelled, options)
    assert bce_dice(labelled, options).item() == pytest.approx((bce + dice).item(), abs=1e-6)


def test_cross_entropies_match_torch() -> None:
    logits, target = random_case()
    logits.requires_grad_()
    target[:, 0] = IGNORE_INDEX
    facts = LossFacts(WEIGHTS)
    for name, weight in (("ce", None), ("weighted_ce", torch.tensor(WEIGHTS))):
        loss = build_loss(LossConfig(loss=name), ignore=True, facts=facts)  # type: ignore[arg-type]
        value, gradient = value_and_gradient(loss(logits, target), logits)
        peer = F.cross_entropy(logits, target, weight, ignore_index=IGNORE_INDEX)
        peer_value, peer_gradient = value_and_gradient(peer, logits)
        torch.testing.assert_close(value, peer_value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, peer_gradient, rtol=1e-4, atol=1e-8)
    onehot = F.one_hot(target % IGNORE_INDEX, 4).movedim(-1, 1).float()
    labelled = Labelled.of(logits, target % IGNORE_INDEX)
    bce = bce_dice(labelled, DiceOptions()) - dice_of(torch.sigmoid(logits), labelled, DiceOptions())
    torch.testing.assert_close(bce, F.binary_cross_entropy_with_logits(logits, onehot), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_and_dice_focal_match_monai(gamma: float) -> None:
    peers = monai_or_skip("monai.losses")
    logits, target = random_case()
    logits.requires_grad_()
    peer = peers.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma)(logits, target[:, None])
    # MONAI's mean is over voxels and classes, the paper's over voxels.
    peer_value, peer_gradient = value_and_gradient(4 * peer, logits)
    value, gradient = value_and_gradient(focal(Labelled.of(logits, target), gamma), logits)
    torch.testing.assert_close(value, peer_value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-4, atol=1e-7)
    both = build_loss(LossConfig(loss="dice_focal", focal_gamma=gamma))(logits, target)
    dice = build_loss(LossConfig(loss="dice"))(logits, target)
    torch.testing.assert_close(both, dice + value, rtol=1e-6, atol=1e-6)


def test_focal_exponent_0_is_the_cross_entropy() -> None:
    logits, target = random_case()
    value = build_loss(LossConfig(loss="focal", focal_gamma=0.0))(logits, target)
    torch.testing.assert_close(value, build_loss(LossConfig(loss="ce"))(logits, target))


def test_class_weights_by_hand() -> None:
    label_maps = [np.repeat(np.array([0, 1, IGNORE_INDEX], np.uint8), (60, 10, 30)).reshape(10, 5, 2)]
    label_maps += [np.repeat(np.array([0, 2], np.uint8), (20, 5)).reshape(5, 5, 1)]
    inverse = np.array([1 / 80, 1 / 10, 1 / 5])
    assert class_weights(label_maps, 3, 1.0) == pytest.approx(inverse / inverse.mean())
    root = np.sqrt(inverse)
    assert class_weights(label_maps, 3, 0.5) == pytest.approx(root / root.mean())
    assert class_weights(label_maps, 3, 0.0) == pytest.approx((1, 1, 1))
    absent = np.array([*inverse, inverse.max()])
    assert class_weights(label_maps, 4, 1.0) == pytest.approx(absent / absent.mean())
    assert class_weights([], 2, 1.0) == (1.0, 1.0)


def test_rare_classes_count_alike_with_weights_of_power_1() -> None:
    """A constant prediction: each class contributes its own log-probability, whatever its size."""
    target = labels(*[0] * 90, *[1] * 10)
    logits = from_probabilities(*[(0.7, 0.3)] * 100)
    weights = class_weights([target.numpy().astype(np.uint8)], 2, 1.0)
    value = build_loss(LossConfig(loss="weighted_ce"), facts=LossFacts(weights))(logits, target)
    assert value.item() == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2, abs=1e-5)
