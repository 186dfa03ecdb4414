"""Channels that state which modalities exist: their values, their number and names, and the networks that take them."""

from __future__ import annotations

import pytest
import torch

from core.config import ModelConfig, TrainConfig
from core.errors import ConfigError
from core.models import MODELS, input_channels, input_names
from core.models.build import build_model
from core.models.indicator import with_indicator

REFUSING = ("densenet_late", "densenet_dual", "hyperdensenet", "resnet3d_vae")


def config_of(name: str, indicator: bool = True) -> TrainConfig:
    return TrainConfig(model=ModelConfig(name)).with_values({"modality_indicator": indicator})


def test_one_for_what_exists_zero_for_what_does_not() -> None:
    images = torch.randn(2, 3, 4, 5, 6)
    stated = with_indicator(images, [[True, False, True], [False, True, True]])
    assert stated.shape == (2, 6, 4, 5, 6) and torch.equal(stated[:, :3], images)
    expected = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    assert torch.equal(stated[:, 3:], expected.view(2, 3, 1, 1, 1).expand(2, 3, 4, 5, 6))
    assert torch.equal(with_indicator(images, None)[:, 3:], torch.ones(2, 3, 4, 5, 6))


def test_number_and_names_of_the_input_channels_agree() -> None:
    for indicator in (False, True):
        config = config_of("unet3d", indicator)
        for modalities in (("T1",), ("T1", "T2", "FLAIR")):
            names = input_names(config, modalities)
            assert len(names) == len(set(names)) == input_channels(config, len(modalities))
            assert names[: len(modalities)] == modalities
    assert input_channels(TrainConfig(), 2) == 2, "none unless it is chosen"


@pytest.mark.parametrize("name", MODELS)
def test_networks_take_the_channels_or_say_why_not(name: str) -> None:
    assert input_channels(config_of(name, indicator=False), 2) == 2
    if name not in REFUSING:
        assert input_channels(config_of(name), 2) == 4
        return
    with pytest.raises(ConfigError, match=rf"modality_indicator: expected .*got {name}: .*; choose another network"):
        input_channels(config_of(name), 2)


def test_channels_that_exist_reach_every_network_that_takes_them() -> None:
    """Layers that differ by the number of inputs read all of them at once: nothing has a layer for each."""
    for name in ("unet3d", "vnet", "skipdensenet3d", "unet2d", "resenc_unet", "med3d"):
        with torch.device("meta"):
            shapes = [
                {k: v.shape for k, v in build_model(ModelConfig(name), n, 3).state_dict().items()} for n in (2, 4)
            ]
        differing = [k for k in shapes[0] if shapes[0][k] != shapes[1][k]]
        assert shapes[0].keys() == shapes[1].keys() and differing
        assert all((shapes[0][k][1], shapes[1][k][1]) == (2, 4) for k in differing)
