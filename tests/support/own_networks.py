"""A user's own network in a file, and a run that was trained with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.checkpointing.metadata import OWN_NETWORK
from core.models import name_own_network, own_networks
from core.models.own_source import describe_code
from tests.support.balls import untrained_run

NET = '''import torch


class Net(torch.nn.Module):
    """One layer."""

    def __init__(self, in_channels, classes):
        super().__init__()
        self.conv = torch.nn.Conv3d(in_channels, classes, 1)

    def forward(self, image):
        return self.conv(image)
'''
OTHER_SHAPE = NET.replace("conv(image)", "conv(image)[..., 1:]")
OTHER_PARAMETERS = NET.replace("classes, 1)", "classes, 1, bias=False)")
NO_IMPORT = "import no_such_module\n" + NET
FAILS = NET.replace("conv(image)", "conv(image).no_such_attribute")
EXITS = "import os\nos._exit(0)\n" + NET
PRINTS = 'print("from import")\n' + NET.replace("return", 'print("from forward"); return')
NEVER_ENDS = "while True:\n    pass\n" + NET


def write_network(folder: Path, text: str = NET, name: str = "Net") -> Path:
    """The file of a network, which the user has named."""
    path = folder / "net.py"
    path.write_text(text, "utf-8")
    name_own_network(f"{path}:{name}")
    return path


def forget_networks(monkeypatch: Any, folder: Path) -> None:
    """A user without networks of their own, with a list of them in a folder."""
    for variable in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, "")


def run_of_network(root: Path, name: str) -> str:
    """A run with a checkpoint of ``Net``, which has been named; returns its id."""
    return untrained_run(root, name, ("M0",), model="Net", inference={OWN_NETWORK: describe_code("Net")})
