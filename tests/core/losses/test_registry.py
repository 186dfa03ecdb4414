"""The registry: every name, its options, and which network a loss belongs to."""

from __future__ import annotations

import dataclasses
import typing

import pytest
import torch

from core.choices import LossName
from core.config import LossConfig, ModelConfig
from core.errors import ConfigError
from core.fields import specs_of
from core.losses import LOSSES, check_loss, unused_options
from core.losses.build import TERMS, LossFacts, build_loss
from core.models.blocks import NetworkOutput
from tests.support.loss_cases import random_case

NAMES = typing.get_args(LossName)
OTHER_VALUES: dict[str, object] = {
    "include_background": False, "batch_dice": True, "dice_smooth": 100.0, "focal_gamma": 1.0, "tversky_alpha": 0.9,
    "tversky_beta": 0.1, "boundary_weight": 1.0, "cldice_weight": 0.9, "skeleton_iterations": 1,
}  # fmt: skip


def test_every_name_has_an_entry_words_and_a_function() -> None:
    assert set(LOSSES) == set(TERMS) == set(NAMES)
    (spec,) = [s for s in specs_of(LossConfig, section="loss") if s.name == "loss"]
    assert len({spec.in_words(name) for name in NAMES}) == len(NAMES)
    assert all(entry.help and "\n" not in entry.help for entry in LOSSES.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_depends_on_its_options_and_on_no_other(name: LossName) -> None:
    logits, target = random_case(shape=(2, 4, 7, 8, 9))
    target[:, :4] = 0
    before = build_loss(LossConfig(loss=name))(logits, target)
    for option, value in OTHER_VALUES.items():
        changed = dataclasses.replace(LossConfig(loss=name), **{option: value})  # type: ignore[arg-type]
        found = build_loss(changed)(logits, target)
        assert (found != before) == (option in LOSSES[name].options), option


def test_options_of_every_loss_are_those_of_the_configuration() -> None:
    fields = {spec.name for spec in specs_of(LossConfig, section="loss")} - {"loss"}
    assert {option for entry in LOSSES.values() for option in entry.options} == fields
    assert unused_options("ce") == fields
    assert unused_options("focal") == fields - {"focal_gamma"}


def test_the_vae_loss_and_its_network_belong_together() -> None:
    vae, dice = LossConfig(loss="vae"), LossConfig()
    check_loss(vae, ModelConfig(model="resnet3d_vae"))
    check_loss(vae, ModelConfig(model="RESNET3DVAE"))
    check_loss(dice, ModelConfig(model="unet3d"))
    with pytest.raises(ConfigError, match=r"loss: vae needs a network with .*\(resnet3d_vae\), got unet3d"):
        check_loss(vae, ModelConfig(model="unet3d"))
    with pytest.raises(ConfigError, match=r"loss: resnet3d_vae trains with the loss vae.*; got dice"):
        check_loss(dice, ModelConfig(model="resnet3d_vae"))


def test_network_without_the_outputs_of_a_loss_is_refused_in_training() -> None:
    logits, target = random_case()
    loss = build_loss(LossConfig(loss="vae"))
    for output in (logits.requires_grad_(), NetworkOutput(logits, {"deep_supervision": (), "image": logits})):
        with pytest.raises(ConfigError, match=r"loss: vae needs .*lacks .*reconstruction, mean, log_variance"):
            loss(output, target)


def test_outputs_of_a_network_that_the_loss_does_not_use_are_refused() -> None:
    logits, target = random_case()
    output = NetworkOutput(logits, {"edges": logits})
    with pytest.raises(ConfigError, match=r"loss: expected a loss that uses the outputs edges .*got ce"):
        build_loss(LossConfig(loss="ce"))(output, target)


def test_vae_adds_its_terms_to_dice() -> None:
    logits, target = random_case()
    image, code = torch.randn(2, 1, 5, 6, 7), torch.zeros(2, 8)
    extras = {"image": image, "reconstruction": image - 2, "mean": code + 3, "log_variance": code}
    value = build_loss(LossConfig(loss="vae"))(NetworkOutput(logits, extras), target)  # type: ignore[arg-type]
    dice = build_loss(LossConfig())(logits, target)
    assert value.item() == pytest.approx(dice.item() + 0.1 * 4 + 0.1 * 8 * 9 / (5 * 6 * 7), rel=1e-6)


def test_facts_default_to_equal_weights_and_cubic_voxels() -> None:
    logits, target = random_case()
    assert build_loss(LossConfig(loss="weighted_ce"))(logits, target).item() == pytest.approx(
        build_loss(LossConfig(loss="ce"))(logits, target).item(), rel=1e-6
    )
    with pytest.raises(ValueError, match="expected 4 class weights, got 2"):
        build_loss(LossConfig(loss="weighted_ce"), facts=LossFacts((1.0, 2.0)))(logits, target)
