"""Generalised Dice and Tversky against values by hand and against MONAI."""

from __future__ import annotations

import itertools

import pytest
import torch

from core.config import LossConfig
from core.losses.build import build_loss
from core.losses.dice import DiceOptions
from core.losses.generalised_dice import generalised_dice
from core.losses.labelled import Labelled
from core.losses.tversky import tversky
from tests.support.loss_cases import from_probabilities, labels, random_case, value_and_gradient
from tests.support.peer_packages import monai_or_skip

THREE_VOXELS = from_probabilities((0.8, 0.2), (0.6, 0.4), (0.1, 0.9))


def test_generalised_dice_by_hand() -> None:
    value = generalised_dice(Labelled.of(THREE_VOXELS, labels(0, 1, 1)), DiceOptions(smooth=0))
    background, foreground = 1.0, 1 / 4  # 1 / n^2
    overlap = 2 * (background * 0.8 + foreground * 1.3)
    assert value.item() == pytest.approx(1 - overlap / (background * (1.5 + 1) + foreground * (1.5 + 2)), abs=1e-6)


def test_generalised_dice_of_an_absent_class_by_hand() -> None:
    """It weighs as much as the smallest class that is present."""
    logits = from_probabilities((0.7, 0.2, 0.1), (0.3, 0.3, 0.4), (0.1, 0.8, 0.1))
    value = generalised_dice(Labelled.of(logits, labels(0, 1, 1)), DiceOptions(smooth=0))
    overlap = 2 * (0.7 + 1.1 / 4)
    assert value.item() == pytest.approx(1 - overlap / ((1.1 + 1) + (1.3 + 2) / 4 + 0.6), abs=1e-6)


def test_generalised_dice_without_any_class_is_the_mean_probability() -> None:
    logits = from_probabilities((0.7, 0.2, 0.1), (0.3, 0.3, 0.4))
    value = generalised_dice(Labelled.of(logits, labels(0, 0)), DiceOptions(include_background=False))
    assert value.item() == pytest.approx((0.25 + 0.25) / 2, abs=1e-6)


def test_smoothing_of_generalised_dice_does_not_depend_on_the_size_of_a_class() -> None:
    """With weights of 1 / n^2 a smoothing of 1e-5 would decide the loss of a large sub-volume of one class."""
    target = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    logits = torch.stack([torch.zeros(40, 40, 40), torch.zeros(40, 40, 40)])[None]
    value = generalised_dice(Labelled.of(logits, target), DiceOptions(smooth=1e-5))
    exact = generalised_dice(Labelled.of(logits, target), DiceOptions(smooth=0))
    assert value.item() == pytest.approx(exact.item(), abs=1e-6)
    assert exact.item() == pytest.approx(0.5, abs=1e-6)  # background 1 * 32000 / (96000 + 32000 of the absent class)


@pytest.mark.slow
@pytest.mark.parametrize(("background", "batch_dice"), list(itertools.product((True, False), (True, False))))
def test_generalised_dice_matches_monai(background: bool, batch_dice: bool) -> None:
    peers = monai_or_skip("monai.losses")
    peer = peers.GeneralizedDiceLoss(
        include_background=background, to_onehot_y=True, softmax=True, batch=batch_dice, smooth_nr=0, smooth_dr=1e-12
    )
    logits, target = random_case()
    target[0][target[0] == 3] = 2
    logits.requires_grad_()
    labelled = Labelled.of(logits, target)
    found = generalised_dice(labelled, DiceOptions(background, 0.0, batch_dice))
    value, gradient = value_and_gradient(found, logits)
    peer_value, peer_gradient = value_and_gradient(peer(logits, target[:, None]), logits)
    torch.testing.assert_close(value, peer_value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-4, atol=1e-8)


def test_tversky_by_hand() -> None:
    options = DiceOptions(include_background=False, smooth=0)
    value = tversky(Labelled.of(THREE_VOXELS, labels(0, 1, 1)), options, alpha=0.3, beta=0.7)
    assert value.item() == pytest.approx(1 - 1.3 / (1.3 + 0.3 * 0.2 + 0.7 * 0.7), abs=1e-6)


def test_tversky_with_equal_weights_is_dice() -> None:
    logits, target = random_case()
    halves = LossConfig(loss="tversky", tversky_alpha=0.5, tversky_beta=0.5, dice_smooth=0.5)
    dice = LossConfig(loss="dice", dice_smooth=1.0)
    torch.testing.assert_close(build_loss(halves)(logits, target), build_loss(dice)(logits, target))


@pytest.mark.slow
@pytest.mark.parametrize(("background", "batch_dice"), list(itertools.product((True, False), (True, False))))
def test_tversky_matches_monai(background: bool, batch_dice: bool) -> None:
    peers = monai_or_skip("monai.losses")
    peer = peers.TverskyLoss(
        include_background=background, to_onehot_y=True, softmax=True, batch=batch_dice, alpha=0.3, beta=0.7,
        smooth_nr=1e-5, smooth_dr=1e-5,
    )  # fmt: skip
    logits, target = random_case()
    logits.requires_grad_()
    config = LossConfig(loss="tversky", include_background=background, batch_dice=batch_dice)
    value, gradient = value_and_gradient(build_loss(config)(logits, target), logits)
    peer_value, peer_gradient = value_and_gradient(peer(logits, target[:, None]), logits)
    torch.testing.assert_close(value, peer_value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-4, atol=1e-8)
