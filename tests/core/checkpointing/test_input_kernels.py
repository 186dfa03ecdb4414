"""Kernels of the input that gain, or lose, the channels of an indicator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.checkpointing.foreign_weights import read_foreign_weights
from core.checkpointing.input_kernels import fit_input_kernels
from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.models.indicator import with_indicator
from tests.support.foreign_networks import network


def unet(in_channels: int) -> SegmentationNetwork:
    return build_model(ModelConfig(channels=(4, 8), full_resolution="detail"), in_channels, 3).eval()


@torch.no_grad()
def test_a_network_begins_with_the_output_that_it_had_without_the_indicator() -> None:
    plain, stating = unet(2), unet(4)
    weights, remark = fit_input_kernels(plain.state_dict(), stating, 2)
    stating.load_state_dict(weights)
    image = torch.randn(1, 2, 8, 8, 8)
    for present in ([[True, True]], [[True, False]]):
        assert torch.allclose(stating(with_indicator(image, present)), plain(image), atol=1e-5)
    assert remark == ", and kernels of 0 for the indicator"
    back, remark = fit_input_kernels(stating.state_dict(), plain, 2)
    assert remark == ", without the kernels of its indicator"
    assert all(torch.equal(back[name], value) for name, value in plain.state_dict().items())


def test_weights_of_the_same_inputs_and_of_others_stay_as_they_are() -> None:
    for source, target in ((unet(2), unet(2)), (unet(3), unet(4))):
        weights, remark = fit_input_kernels(source.state_dict(), target, 2)
        assert remark == "" and all(torch.equal(weights[n], v) for n, v in source.state_dict().items())


@pytest.mark.slow
def test_weights_of_another_program_get_kernels_of_zero_too(tmp_path: Path) -> None:
    torch.save(network(1, in_channels=2).state_dict(), tmp_path / "other.pth")
    with torch.device("meta"):
        like = network(in_channels=2)
    found = read_foreign_weights(tmp_path / "other.pth", like)
    stating = network(in_channels=4)
    weights, _ = fit_input_kernels(found.weights, stating, 2)
    stating.load_state_dict(weights)
    (first,) = [n for n, v in stating.state_dict().items() if v.ndim == 5 and v.shape[1] == 4 and "encoder.0.1.0" in n]
    assert torch.equal(weights[first][:, :2], found.weights[first]) and not weights[first][:, 2:].any()
