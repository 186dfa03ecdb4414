"""Networks of MONAI behind the interface of this program."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from core.config import ModelConfig
from core.errors import ConfigError
from core.models import MODELS, resolve
from core.models.blocks import NetworkOutput, SegmentationNetwork
from core.models.build import build_model
from core.models.deep_supervision import DEEP_SUPERVISION
from tests.support.peer_packages import import_or_skip

NAMES = [name for name, entry in MODELS.items() if "monai" in entry.packages]
PARAMETERS = {  # for one modality and two classes; the papers: 62 and 5.6 million of swin_unetr and mednext
    "segresnet": 18_968_258,
    "attention_unet": 5_909_130,
    "swin_unetr": 62_186_708,
    "mednext": 5_550_914,
}


@pytest.fixture(autouse=True, scope="module")
def packages() -> None:
    for package in ("monai.networks.nets", "einops"):
        import_or_skip(package, "requirements-dev.txt")


def network(name: str, in_channels: int = 1, classes: int = 2, **options: Any) -> SegmentationNetwork:
    return build_model(ModelConfig(name, **options), in_channels, classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in network(name).parameters()) == PARAMETERS[name]


@pytest.mark.slow
def test_transformer_takes_sizes_below_and_above_its_windows() -> None:
    """On the device "meta", which computes the sizes alone."""
    with torch.device("meta"):
        model = network("swin_unetr", 3, 5)
        for size in ((5, 1, 3), (33, 17, 40), (130, 64, 33)):
            assert model(torch.empty(1, 3, *size, device="meta")).shape == (1, 5, *size)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_stages_are_called_once_and_end_at_their_levels(name: str) -> None:
    with torch.device("meta"):
        model = network(name)
        outputs: dict[nn.Module, list[torch.Tensor]] = {}
        for stage in model.stages():
            stage.module.register_forward_hook(lambda module, _, output: outputs.setdefault(module, []).append(output))
        model(torch.empty(1, 1, 64, 64, 64, device="meta"))
    for stage in model.stages():
        (output,) = outputs[stage.module]
        assert output.shape[2:] == (64 >> stage.level,) * 3, (stage.kind, stage.level)
    assert [s.kind for s in model.stages()].count("bottleneck") == 1 and model.stages()[-1].kind == "logits"


@pytest.mark.long
@pytest.mark.parametrize("name", ["attention_unet", "mednext"])
def test_one_step_lowers_the_loss_with_the_same_weights_for_a_seed(name: str) -> None:
    image, losses = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)), []
    target = (image[:, 0] > 0).long()
    for _ in range(2):
        torch.manual_seed(0)
        model = network(name)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        run = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(image), target)
            loss.backward()
            optimizer.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]


@pytest.mark.slow
def test_deep_supervision_of_mednext_in_training_only() -> None:
    with torch.device("meta"):
        model = network("mednext", classes=3, deep_supervision=True)
        output = model(torch.empty(1, 1, 30, 32, 16, device="meta"))
        assert isinstance(output, NetworkOutput) and output.logits.shape == (1, 3, 30, 32, 16)
        shapes = [tuple(t.shape[2:]) for t in output.extras[DEEP_SUPERVISION]]
        assert shapes == [(16, 16, 8), (8, 8, 4), (4, 4, 2), (2, 2, 1)]
        assert isinstance(model.eval()(torch.empty(1, 1, 30, 32, 16, device="meta")), torch.Tensor)


def test_channels_of_attention_unet_are_free_and_those_of_the_others_fixed() -> None:
    assert resolve(ModelConfig("attention_unet", (4, 8, 16))).channels == (4, 8, 16)
    with torch.device("meta"):
        assert network("attention_unet", channels=(4, 8, 16)).divisor == (4, 4, 4)
    assert all(resolve(ModelConfig(name, (4, 8))).channels == () for name in NAMES if name != "attention_unet")


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "einops" else find(name))
    with pytest.raises(ConfigError, match=r"swin_unetr needs einops, .*pip install -r requirements-networks.txt"):
        network("swin_unetr")
