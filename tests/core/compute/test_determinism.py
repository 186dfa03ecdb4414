"""The switch: the same weights again, bit for bit, and ties of max pooling that are defined."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from core.compute.determinism import deterministic
from core.config import RunConfig, TrainConfig
from core.errors import ConfigError
from core.models.blocks import MaxPool2
from core.types import Size3
from tests.support.balls import write_balls

PROGRAM = """
import json, sys
from pathlib import Path
from core.config import TrainConfig
from core.training.experiment import train_run
for config, folder in zip(json.loads(sys.argv[1]), sys.argv[2:]):
    Path(folder).mkdir()
    train_run(TrainConfig.from_json(config), Path(folder), lambda event: None)
"""


def training(configs: Sequence[TrainConfig], folders: Sequence[Path]) -> subprocess.Popen[bytes]:
    """A process that trains them one after the other."""
    values = json.dumps([config.to_json() for config in configs])
    return subprocess.Popen([sys.executable, "-c", PROGRAM, values, *map(str, folders)])


def digest(folder: Path) -> str:
    """Of the tensors that a run left."""
    from core.checkpointing.checkpoint import load

    found = hashlib.sha256()
    for name, value in sorted(load(folder / "last.safetensors").model.items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("downsampling", ["pool", "stride"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_weights_bit_for_bit(tmp_path: Path, downsampling: str, optimizer: str) -> None:
    from tests.support.balls import tiny

    data = write_balls(tmp_path / "data")
    values = dict(
        path=str(data), deterministic=True, epochs=2, precision="auto", downsampling=downsampling, optimizer=optimizer,
        affine=1.0, elastic=1.0, intensity=0.5, noise=0.1, samples_train=8,
    )  # fmt: skip
    once, again, other = (tiny(**values, seed=seed) for seed in (3, 3, 4))
    folders = [tmp_path / name for name in ("a", "b", "c")]
    processes = [training([once], folders[:1]), training([again, other], folders[1:])]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    digests = [digest(folder) for folder in folders]
    assert digests[0] == digests[1] != digests[2]


def test_the_switch_is_put_back() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        with deterministic(False):
            assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_time_budget_cannot_be_repeated() -> None:
    with pytest.raises(ConfigError, match=r"deterministic: expected a number of epochs.*the clock"):
        RunConfig(deterministic=True, minutes=3)


@pytest.mark.parametrize("size", [(4, 6, 8), (5, 7, 4)])
def test_deterministic_pooling_is_the_usual_one(size: Size3) -> None:
    """Also its gradient where voxels are tied: the first of them gets it."""
    x = torch.randint(0, 3, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    usual = F.max_pool3d(one, 2)
    with deterministic(True):
        mine = MaxPool2()(other)
    assert torch.equal(mine, usual)
    weight = torch.randn(usual.shape, generator=torch.Generator().manual_seed(1))
    (usual * weight).sum().backward()
    (mine * weight).sum().backward()
    assert one.grad is not None and other.grad is not None
    assert torch.equal(other.grad, one.grad)


def test_pooling_of_a_whole_block_of_ties_goes_to_its_first_voxel() -> None:
    x = torch.zeros(1, 1, 2, 2, 2, requires_grad=True)
    with deterministic(True):
        MaxPool2()(x).sum().backward()
    assert x.grad is not None and x.grad[0, 0, 0, 0, 0] == 1 and x.grad.sum() == 1
