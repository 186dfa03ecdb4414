"""The table of parameters in the documentation: a row for each network, with the number that the network has."""

from __future__ import annotations

import pytest
import torch

from core.config import ModelConfig
from core.models import MODELS
from core.models.build import build_model
from core.paths import project_root
from tests.core.models.test_unet3d import parameters
from tests.support.peer_packages import import_or_skip

HEADING = "## Parameters, and what is stated elsewhere"


def rows() -> dict[str, tuple[int, int, int]]:
    """Modalities, classes and parameters by the name of the network."""
    text = (project_root() / "docs" / "networks.md").read_text("utf-8")
    lines = text.partition(HEADING)[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    found = {}
    for name, size, count, *_ in cells:
        modalities, classes = size.split(", ")
        found[name.strip("`")] = (int(modalities), int(classes), int(count.replace(",", "")))
    return found


def test_every_network_has_a_row() -> None:
    assert set(rows()) == set(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_row_has_the_number_of_the_network(name: str) -> None:
    for package in MODELS[name].packages:
        import_or_skip(package, "requirements-dev.txt")
    modalities, classes, count = rows()[name]
    with torch.device("meta"):
        assert parameters(build_model(ModelConfig(name), modalities, classes)) == count
