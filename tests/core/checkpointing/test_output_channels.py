"""Output channels of initial weights: taken by the names of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.checkpointing.output_channels import fit_output_channels
from core.config import ModelConfig
from core.models import MODELS, size_divisor
from core.models.blocks import NetworkOutput, SegmentationNetwork
from core.models.build import build_model
from tests.support.own_networks import forget_networks, write_network
from tests.support.peer_packages import import_or_skip

BEFORE = ("background", "GM", "WM", "CSF")
SMALL = ModelConfig("unet3d", channels=(4, 8, 16))
State = dict[str, Tensor]


def network(config: ModelConfig, classes: int, seed: int) -> SegmentationNetwork:
    torch.manual_seed(seed)
    return build_model(config, 1, classes)


def fit(config: ModelConfig, now: tuple[str, ...]) -> tuple[State, State, State, str]:
    """State of the initial and of the fresh network, the fitted weights and the remark."""
    before, fresh = network(config, 4, 0).state_dict(), network(config, 4, 1)
    with torch.device("meta"):
        wider = network(config, 5, 2)
    return before, fresh.state_dict(), *fit_output_channels(before, fresh, wider, BEFORE, now)


CASES = [
    (name, inner)
    for name, entry in MODELS.items()
    for inner in (False, True)
    if not inner or "deep_supervision" in entry.options
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "inner"), CASES)
def test_classifiers_of_all_networks_follow_the_order_of_the_classes(name: str, inner: bool) -> None:
    """The logits of the fitted network, also those of inner levels, are those of the initial one in the other order."""
    entry = MODELS[name]
    for package in entry.packages:
        import_or_skip(package, "requirements-dev.txt")
    config = ModelConfig(name, deep_supervision=inner)
    if "channels" in entry.options:
        config = replace(config, channels=(2, 3) if size_divisor(config) == 1 else (4, 6, 8))
    _, _, fitted, remark = fit(config, ("background", "CSF", "wm", "GM"))
    assert remark == ", its classes by name"
    both, image = network(config, 4, 0).train(inner), torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        expected = [logits[:, [0, 3, 2, 1]] for logits in all_logits(both(image))]
        both.load_state_dict(fitted)
        found = all_logits(both(image))
    assert len(found) == len(expected) > int(inner)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def all_logits(output: Tensor | NetworkOutput) -> list[Tensor]:
    """Those of the input's size, then those of inner levels."""
    if isinstance(output, Tensor):
        return [output]
    return [output.logits, *output.extras["deep_supervision"]]


def test_a_new_class_keeps_its_fresh_weights() -> None:
    before, fresh, fitted, remark = fit(SMALL, ("background", "WM", "lesion", "CSF"))
    assert remark == ", its classes by name; lesion new"
    weight = "classifier.weight"
    assert torch.equal(fitted[weight][[0, 1, 3]], before[weight][[0, 2, 3]])
    assert torch.equal(fitted[weight][2], fresh[weight][2])


def test_classes_none_of_which_is_known_are_taken_in_order_with_a_warning() -> None:
    before, _, fitted, remark = fit(SMALL, ("background", "liver", "spleen", "kidney"))
    assert remark == (
        "; warning: its classes background, GM, WM, CSF are taken for background, liver, spleen, kidney in this order"
    )
    assert all(torch.equal(fitted[name], before[name]) for name in before)


def test_classes_of_a_users_own_network_are_taken_in_order_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_networks(monkeypatch, tmp_path / "config")
    write_network(tmp_path)
    config = ModelConfig("Net")
    before, _, fitted, remark = fit(config, ("background", "WM", "GM", "CSF"))
    assert "warning: its classes background, GM, WM, CSF are taken for" in remark
    assert all(torch.equal(fitted[name], before[name]) for name in before)


def test_the_same_classes_change_nothing() -> None:
    before, _, fitted, remark = fit(SMALL, ("background", "gm", "WM", "csf"))
    assert remark == "" and all(fitted[name] is before[name] for name in before)
