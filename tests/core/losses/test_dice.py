"""The losses against values computed by hand and against MONAI's, absent classes included."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from core.choices import LossName
from core.config import LossConfig
from core.labels import IGNORE_INDEX
from core.losses.build import build_loss
from core.losses.dice import dice_loss
from core.losses.dice_ce import dice_ce_loss
from tests.support.loss_cases import confident_logits, from_probabilities, labels, random_case, value_and_gradient
from tests.support.peer_packages import monai_or_skip

CLASSES = 4
LOSSES = {"dice": dice_loss, "dice_ce": dice_ce_loss}


def test_dice_by_hand() -> None:
    logits = from_probabilities((0.8, 0.2), (0.6, 0.4), (0.1, 0.9))
    target = labels(0, 1, 1)
    background = 2 * 0.8 / (1.5 + 1)
    foreground = 2 * (0.4 + 0.9) / (1.5 + 2)
    mean = (background + foreground) / 2
    assert dice_loss(logits, target, smooth=0).item() == pytest.approx(1 - mean, abs=1e-6)
    without = dice_loss(logits, target, smooth=0, include_background=False)
    assert without.item() == pytest.approx(1 - foreground, abs=1e-6)
    smoothed = ((1.6 + 1) / (2.5 + 1) + (2.6 + 1) / (3.5 + 1)) / 2
    assert dice_loss(logits, target, smooth=1).item() == pytest.approx(1 - smoothed, abs=1e-6)
    squared = (1.6 / (0.64 + 0.36 + 0.01 + 1) + 2.6 / (0.04 + 0.16 + 0.81 + 2)) / 2
    assert dice_loss(logits, target, smooth=0, squared=True).item() == pytest.approx(1 - squared, abs=1e-6)


def test_cross_entropy_by_hand() -> None:
    logits = from_probabilities((0.8, 0.2), (0.6, 0.4), (0.1, 0.9))
    target = labels(0, 1, 1)
    cross_entropy = -(torch.tensor([0.8, 0.4, 0.9]).log()).mean().item()
    difference = dice_ce_loss(logits, target, smooth=0) - dice_loss(logits, target, smooth=0)
    assert difference.item() == pytest.approx(cross_entropy, abs=1e-6)


def test_gradient_by_hand() -> None:
    # One voxel of class 1 with probability p: D = 2p / (p + 1) and dD/dlogit = 2 / (p + 1)^2 * p (1 - p).
    p = 0.3
    logits = from_probabilities((1 - p, p)).requires_grad_()
    loss = dice_loss(logits, labels(1), smooth=0, include_background=False)
    value, gradient = value_and_gradient(loss, logits)
    slope = 2 / (p + 1) ** 2 * p * (1 - p)
    assert value.item() == pytest.approx(1 - 2 * p / (p + 1), abs=1e-6)
    assert gradient.flatten().tolist() == pytest.approx([slope, -slope], abs=1e-6)


def test_per_sample_and_batch_dice_by_hand() -> None:
    first = from_probabilities((0.5, 0.5), (0.5, 0.5))
    second = from_probabilities((0.1, 0.9), (0.1, 0.9))
    logits, target = torch.cat((first, second)), torch.cat((labels(0, 1), labels(1, 1)))
    options: dict[str, Any] = dict(include_background=False, smooth=0.0)
    per_sample = (2 * 0.5 / (1 + 1) + 2 * 1.8 / (1.8 + 2)) / 2
    pooled = 2 * (0.5 + 1.8) / (2.8 + 3)
    assert dice_loss(logits, target, **options).item() == pytest.approx(1 - per_sample, abs=1e-6)
    assert dice_loss(logits, target, batch_dice=True, **options).item() == pytest.approx(1 - pooled, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "include_background", "batch_dice", "squared", "smooth"),
    list(itertools.product(LOSSES, (True, False), (True, False), (True, False), (1e-5, 1.0))),
)
def test_matches_monai(name: str, include_background: bool, batch_dice: bool, squared: bool, smooth: float) -> None:
    peers = monai_or_skip("monai.losses")
    peer_class = {"dice": peers.DiceLoss, "dice_ce": peers.DiceCELoss}[name]
    peer = peer_class(
        include_background=include_background,
        to_onehot_y=True,
        softmax=True,
        squared_pred=squared,
        batch=batch_dice,
        smooth_nr=smooth,
        smooth_dr=smooth,
    )
    logits, target = random_case()
    logits.requires_grad_()
    options: dict[str, Any] = dict(
        include_background=include_background, smooth=smooth, batch_dice=batch_dice, squared=squared
    )
    value, gradient = value_and_gradient(LOSSES[name](logits, target, **options), logits)
    peer_value, peer_gradient = value_and_gradient(peer(logits, target[:, None]), logits)
    torch.testing.assert_close(value, peer_value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
def test_class_absent_from_target_and_prediction_scores_1(batch_dice: bool, squared: bool, smooth: float) -> None:
    target = torch.randint(0, 2, (2, 6, 6, 6), generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = dict(batch_dice=batch_dice, squared=squared, smooth=smooth)
    logits = confident_logits(target, CLASSES).requires_grad_()
    for name, loss in LOSSES.items():
        value, gradient = value_and_gradient(loss(logits, target, **options), logits)
        assert value.item() == pytest.approx(0, abs=1e-5), name
        assert gradient.abs().max().item() < 1e-6, name


def test_background_only_prediction_of_background_is_perfect() -> None:
    target = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    for include_background in (True, False):
        right = dice_loss(confident_logits(target, 3), target, include_background=include_background)
        assert right.item() == pytest.approx(0, abs=1e-6)


def test_false_positives_of_an_absent_class_are_penalised_in_proportion() -> None:
    target = torch.zeros(1, 8, 1, 1, dtype=torch.long)
    losses = []
    for false_alarms in (0, 2, 8):
        claimed = target.clone()
        claimed[:, :false_alarms] = 1
        logits = confident_logits(claimed, 2, logit=4.0).requires_grad_()
        value, gradient = value_and_gradient(dice_loss(logits, target, include_background=False), logits)
        losses.append(value.item())
        assert (gradient[:, 1] > 0).all()
        assert gradient.isfinite().all()
    p = torch.sigmoid(torch.tensor(4.0)).item()
    expected = [(n * p + (8 - n) * (1 - p)) / 8 for n in (0, 2, 8)]
    assert losses == pytest.approx(expected, abs=1e-6)


def test_absent_class_does_not_change_the_score_of_the_others() -> None:
    logits, target = random_case(shape=(1, 3, 6, 6, 6))
    # A fourth class that the network rules out: three classes score as before, the fourth scores 1.
    ruled_out = torch.cat((logits, torch.full_like(logits[:, :1], -200)), dim=1)
    three, four = dice_loss(logits, target), dice_loss(ruled_out, target)
    assert four.item() == pytest.approx(three.item() * 3 / 4, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_sums_are_float32_for_any_logits(dtype: torch.dtype, name: str) -> None:
    # 64^3 voxels of one class: more than float16 can hold, and more than bfloat16 can count.
    target = torch.ones(1, 64, 64, 64, dtype=torch.uint8)
    target[:, ::3, ::5] = 0
    logits = torch.randn((1, 2, 64, 64, 64), generator=torch.Generator().manual_seed(1)).to(dtype)
    rounded = logits.float()
    expected = LOSSES[name](rounded, target)
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](logits.requires_grad_(), target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    found.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name: str) -> None:
    target = labels(0, 1, 2)
    logits = confident_logits(torch.tensor([[1, 2, 0]]).reshape(1, 3, 1, 1), 3, logit=3e4).requires_grad_()
    value, gradient = value_and_gradient(LOSSES[name](logits, target), logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_target_may_be_any_integer_type(dtype: torch.dtype) -> None:
    logits, target = random_case()
    for loss in LOSSES.values():
        assert loss(logits, target.to(dtype)) == loss(logits, target)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_never_synchronises_with_the_device(name: str) -> None:
    # Tensors on the meta device have no values: operations that need them (item, bool, nonzero) raise.
    logits = torch.empty(2, CLASSES, 4, 5, 6, device="meta", requires_grad=True)
    target = torch.empty(2, 4, 5, 6, device="meta", dtype=torch.uint8)
    loss = LOSSES[name](logits, target, batch_dice=True, include_background=False)
    assert loss.shape == ()
    loss.backward()


def test_mismatched_shapes_and_types_are_refused() -> None:
    logits, target = random_case()
    cases = {
        r"target of shape \(2, 5, 6, 7\).*got \(2, 5, 6, 6\)": (logits, target[..., :6]),
        r"target of shape.*got \(2, 1, 5, 6, 7\)": (logits, target[:, None]),
        r"integer class indices, got torch.float32": (logits, target.float()),
        r"floating logits \(batch, classes, i, j, k\).*\(4, 5, 6, 7\)": (logits[0], target[0]),
        r"floating logits.*got torch.int64": (logits.long(), target),
        r"at least one voxel": (logits[..., :0], target[..., :0]),
    }
    for loss in LOSSES.values():
        for message, (bad_logits, bad_target) in cases.items():
            with pytest.raises(ValueError, match=message):
                loss(bad_logits, bad_target)
    with pytest.raises(ValueError, match="at least two classes"):
        dice_loss(logits[:, :1], torch.zeros_like(target), include_background=False)


def test_build_loss_uses_every_field() -> None:
    logits, target = random_case()
    config = LossConfig(loss="dice_ce", include_background=False, batch_dice=True, dice_smooth=1.0)
    expected = dice_ce_loss(logits, target, include_background=False, batch_dice=True, smooth=1.0)
    assert build_loss(config)(logits, target) == expected
    assert build_loss(LossConfig())(logits, target) == dice_loss(logits, target)
    variants = [LossConfig(), LossConfig(loss="dice_ce"), LossConfig(include_background=False)]
    variants += [LossConfig(batch_dice=True), LossConfig(dice_smooth=100.0)]
    assert len({build_loss(variant)(logits, target).item() for variant in variants}) == len(variants)


def test_smoothing_of_a_class_absent_from_the_batch_counts_all_its_voxels() -> None:
    """Absent class: 1 minus its mean probability, over a sub-volume or over the batch."""
    logits = torch.zeros(2, 3, 2, 1, 1)
    logits[0, 2], logits[1, 2] = -1.0, 1.0
    target = torch.tensor([0, 1, 0, 1]).view(2, 2, 1, 1)
    probabilities = torch.softmax(logits, 1)
    present = [
        2 * probabilities[:, c][target == c].sum() / (probabilities[:, c].sum() + (target == c).sum()) for c in (0, 1)
    ]
    expected = 1 - (present[0] + present[1] + 1 - probabilities[:, 2].mean()) / 3
    assert float(dice_loss(logits, target, batch_dice=True, smooth=0.0)) == pytest.approx(float(expected), abs=1e-6)


def test_defaults_of_both_losses_are_those_of_the_configuration_per_sub_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    target = torch.randint(0, 3, (2, 4, 4, 4), generator=generator)
    for loss in (dice_loss, dice_ce_loss):
        explicit = loss(logits, target, include_background=True, smooth=1e-5, batch_dice=False, squared=False)
        assert torch.equal(loss(logits, target), explicit)
        assert not torch.equal(loss(logits, target), loss(logits, target, batch_dice=True))


def test_voxels_are_counted_exactly_beyond_the_range_of_half_precision() -> None:
    """300 x 300 voxels of one class: more than float16 can count, and more than bfloat16 counts one by one."""
    target = torch.zeros(1, 300, 300, 1, dtype=torch.long)
    logits = torch.zeros(1, 2, 300, 300, 1, dtype=torch.bfloat16)
    logits[:, 0] = 20.0
    assert float(dice_loss(logits, target, smooth=0.0)) == pytest.approx(0.0, abs=1e-6)


# --- the ignore label -------------------------------------------------------------------------------------------------

NAMES: tuple[LossName, ...] = ("dice", "dice_ce")
VARIANTS = [
    LossConfig(loss=name, include_background=background, batch_dice=batch_dice, dice_smooth=smooth)
    for name, background, batch_dice, smooth in itertools.product(NAMES, (True, False), (True, False), (1e-5, 1.0))
]


def test_ignored_voxels_by_hand() -> None:
    logits = from_probabilities((0.8, 0.2), (0.6, 0.4), (0.1, 0.9), (0.3, 0.7))
    target = labels(0, 1, 1, IGNORE_INDEX)
    background, foreground = 2 * 0.8 / (1.5 + 1), 2 * (0.4 + 0.9) / (1.5 + 2)
    dice = build_loss(LossConfig(loss="dice", dice_smooth=0.0), ignore=True)(logits, target)
    assert dice.item() == pytest.approx(1 - (background + foreground) / 2, abs=1e-6)
    combined = build_loss(LossConfig(loss="dice_ce", dice_smooth=0.0), ignore=True)(logits, target)
    cross_entropy = -(torch.tensor([0.8, 0.4, 0.9]).log()).mean()
    assert combined.item() == pytest.approx(dice.item() + cross_entropy.item(), abs=1e-6)


def test_absent_class_beside_ignored_voxels_by_hand() -> None:
    """False positives count relative to the voxels that are not ignored."""
    logits = from_probabilities((0.8, 0.2), (0.6, 0.4), (0.1, 0.9), (0.1, 0.9))
    target = labels(0, 0, IGNORE_INDEX, IGNORE_INDEX)
    config = LossConfig(loss="dice", dice_smooth=0.0, include_background=False)
    assert build_loss(config, ignore=True)(logits, target).item() == pytest.approx((0.2 + 0.4) / 2, abs=1e-6)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_ignored_region_is_as_if_cropped(config: LossConfig) -> None:
    logits, target = random_case(shape=(2, CLASSES, 6, 7, 5))
    logits.requires_grad_()
    whole = target.clone()
    whole[:, 4:] = IGNORE_INDEX
    value, gradient = value_and_gradient(build_loss(config, ignore=True)(logits, whole.byte()), logits)
    cropped = build_loss(config)(logits[:, :, :4], target[:, :4].byte())
    expected, expected_gradient = value_and_gradient(cropped, logits)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
    assert not gradient[:, :, 4:].any(), "ignored voxels have no gradient"


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_wholly_ignored_sub_volume_is_as_if_absent(config: LossConfig) -> None:
    logits, target = random_case()
    target[1] = IGNORE_INDEX
    value = build_loss(config, ignore=True)(logits, target.byte())
    torch.testing.assert_close(value, build_loss(config)(logits[:1], target[:1].byte()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_batch_of_ignored_voxels_has_no_loss_and_no_gradient(config: LossConfig) -> None:
    logits, target = random_case()
    logits.requires_grad_()
    everything = torch.full_like(target, IGNORE_INDEX)
    value, gradient = value_and_gradient(build_loss(config, ignore=True)(logits, everything), logits)
    assert value.item() == 0 and not gradient.any()


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_without_ignored_voxels_the_loss_is_the_same(config: LossConfig) -> None:
    logits, target = random_case()
    value = build_loss(config, ignore=True)(logits, target.byte())
    torch.testing.assert_close(value, build_loss(config)(logits, target.byte()), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_dice", [True, False])
def test_loss_with_ignored_voxels_never_synchronises_with_the_device(name: LossName, batch_dice: bool) -> None:
    logits = torch.empty(2, CLASSES, 4, 5, 6, device="meta", requires_grad=True)
    target = torch.empty(2, 4, 5, 6, device="meta", dtype=torch.uint8)
    loss = build_loss(LossConfig(loss=name, batch_dice=batch_dice), ignore=True)(logits, target)
    assert loss.shape == ()
    loss.backward()


def test_extreme_logits_of_ignored_voxels_do_not_matter() -> None:
    logits, target = random_case()
    target[:, 0] = IGNORE_INDEX
    extreme = logits.clone()
    extreme[:, 2, 0] = 1e4
    loss = build_loss(LossConfig(loss="dice_ce"), ignore=True)
    torch.testing.assert_close(loss(extreme, target), loss(logits, target), rtol=1e-6, atol=1e-7)
