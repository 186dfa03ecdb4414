"""The registry: every architecture is found by its name and built again from its own configuration."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import pytest
import torch

from core.config import ModelConfig
from core.errors import ConfigError
from core.models import MODELS, resolve, size_divisor
from core.models.build import build_model
from core.models.unet3d import UNet3D
from core.models.vnet import VNet
from core.paths import project_root
from core.presets import PRESETS, preset


def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("name", "kind"), [("unet3d", UNet3D), ("vnet", VNet)])
def test_empty_channels_default_to_those_of_the_architecture(name: str, kind: type[torch.nn.Module]) -> None:
    with torch.device("meta"):
        network = build_model(ModelConfig(name), 2, 4)
    assert isinstance(network, kind)
    assert network.config.channels == MODELS[name].channels
    assert (network.in_channels, network.classes) == (2, 4)
    assert network.divisor == (size_divisor(ModelConfig(name)),) * 3


def test_article_preset_builds_the_article_network() -> None:
    with torch.device("meta"):
        network = build_model(preset("article").model, 2, 4)
        assert shapes(network) == shapes(build_model(ModelConfig(), 2, 4))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "fast" else pytest.param(name, marks=pytest.mark.long(1)) for name in PRESETS]
)
@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if not entry.packages])
def test_every_preset_works_with_every_architecture(name: str, model: str) -> None:
    config = dataclasses.replace(preset(name).model, model=model)
    with torch.device("meta"):
        network = build_model(config, 1, 3).eval()
        assert network(torch.empty(1, 1, 20, 17, 33, device="meta")).shape == (1, 3, 20, 17, 33)
        again = build_model(network.config, 1, 3)
    assert again.config == network.config
    assert shapes(again) == shapes(network)


def test_network_keeps_every_option_of_the_configuration() -> None:
    config = ModelConfig("unet3d", (6, 8), (1, 3), "group", "prelu", "stride", "after", deep_supervision=True)
    assert build_model(config, 1, 2).config == config
    assert build_model(ModelConfig("vnet", (6, 8), norm="group"), 1, 2).config.norm == "group"


def test_vnet_overrides_the_options_that_it_does_not_support() -> None:
    config = ModelConfig("vnet", (4, 8), (1,), activation="relu", downsampling="pool", full_resolution="detail")
    network = build_model(config, 1, 2)
    assert network.config == resolve(config) == ModelConfig("vnet", (4, 8), (), "batch", "prelu", "stride", "after")


def test_a_name_of_the_library_is_resolved_to_ours() -> None:
    assert build_model(ModelConfig("VNET", (4, 8)), 1, 2).config.model == "vnet"


def test_every_network_is_described_in_the_documentation() -> None:
    text = (project_root() / "docs" / "networks.md").read_text("utf-8")
    assert not [name for name in MODELS if f"**`{name}`**" not in text]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("vnett", "vnet or VNET2"),
        ("Unet_3D", "unet3d or unet2d"),
        ("DENSENET4", "DENSENET1 or DENSENET2 or DENSENET3"),
        ("swin-unetr", "swin_unetr"),
        ("transformer", ""),
    ],
)
def test_unknown_architecture_is_refused_with_names_like_it(text: str, near: str) -> None:
    with pytest.raises(ConfigError, match=r"model: .*unet3d, vnet") as raised:
        build_model(ModelConfig(text), 2, 4)
    meant = str(raised.value).partition(f"{text!r}")[2].partition(". If")[0]
    assert set(meant.removeprefix(" (did you mean ").removesuffix("?)").split(" or ")) == set(near.split(" or "))


def test_table_of_the_library_in_the_documentation_is_that_of_the_registry() -> None:
    text = (project_root() / "docs" / "networks.md").read_text("utf-8").partition("## Names of MedicalZooPytorch")[2]
    rows = [[re.findall("`([^`]+)`", cell) for cell in row.split("|")[1:3]] for row in text.splitlines()]
    documented = {alias: name for row in rows if len(row) == 2 for alias, name in zip(*row, strict=True)}
    assert documented == {alias: name for name, entry in MODELS.items() for alias in entry.aliases}


def test_registry_needs_no_torch_and_every_entry_says_what_it_is() -> None:
    code = "import json, sys, core.models as m; print(json.dumps([list(m.MODELS), 'torch' in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(MODELS), False]
    for entry in MODELS.values():
        assert entry.help and "\n" not in entry.help and len(entry.help) < 110
        assert {*entry.options, *entry.fixed_options} <= {field.name for field in dataclasses.fields(ModelConfig)}
        assert not set(entry.options) & set(entry.fixed_options)
        assert bool(entry.channels) == ("channels" in entry.options)
