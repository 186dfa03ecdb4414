"""Networks are checked before a run is created."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from core.config import ModelConfig, TrainConfig
from core.errors import ConfigError
from core.models import name_own_network, own_networks
from core.runs import launch
from core.runs.launch import resolve_config

NETWORK = """
import torch
class Net(torch.nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.conv = torch.nn.Conv3d(in_channels, classes, 1)
    def forward(self, image):
        return self.conv(image){index}
"""


def resolved(root: Path, model: str) -> TrainConfig:
    return resolve_config(root, TrainConfig(model=ModelConfig(model)).with_values({"path": "demo"}))


def test_network_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model: expected one of unet3d, .*got 'vnett'"):
        resolved(tmp_path, "vnett")


def test_network_whose_package_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"segresnet needs monai, not installed here: pip install"):
        resolved(tmp_path, "segresnet")


@pytest.fixture
def own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without named networks."""
    for variable in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "config"))
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, "")


@pytest.mark.slow
@pytest.mark.usefixtures("own_names")
def test_network_of_the_user_is_tried_out_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("print('hello')\n" + NETWORK.format(index=""))
    name = name_own_network(f"{path}:Net")
    assert resolved(tmp_path, name).model.model == "Net"
    assert json.loads(own_networks.list_path().read_text()) == {"Net": str(path)}, "the pages know it from now on"
    own_networks.list_path().unlink()
    path.write_text(NETWORK.format(index="[:, :1]"))
    with pytest.raises(ConfigError, match=r"Net breaks the contract of networks(.|\n)*expected logits of shape"):
        resolved(tmp_path, name)
    assert not own_networks.list_path().exists()


@pytest.mark.long
@pytest.mark.usefixtures("own_names")
def test_network_that_ends_its_check_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("import os\n" + NETWORK.format(index="").replace("return", "os._exit(0); return"))
    name = name_own_network(f"{path}:Net")
    with pytest.raises(ConfigError, match=r"net.py: its check ended with status 0 before it was done"):
        resolved(tmp_path, name)


@pytest.mark.slow
@pytest.mark.usefixtures("own_names")
def test_network_whose_check_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CHECK_NETWORK_S", 1.0)
    path = tmp_path / "net.py"
    path.write_text("import time\ntime.sleep(600)\n" + NETWORK.format(index=""))
    name = name_own_network(f"{path}:Net")
    with pytest.raises(ConfigError, match=r"model: Net: expected its check to end within 1 s, .*net.py that waits"):
        resolved(tmp_path, name)
