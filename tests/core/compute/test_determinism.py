"""Deterministic training repeats weights bit for bit; deterministic max pooling resolves ties."""

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
from core.config import TrainConfig
from core.models.blocks import MaxPool2
from core.types import Size3
from tests.support.balls import tiny, write_balls

PROGRAM = """
import json, sys
from pathlib import Path
from core.config import TrainConfig
from core.training.experiment import train_run
for config, folder in zip(json.loads(sys.argv[1]), sys.argv[2:]):
    Path(folder).mkdir()
    train_run(TrainConfig.from_json(config), Path(folder), lambda event: None)
"""


def start_training(configs: Sequence[TrainConfig], folders: Sequence[Path]) -> subprocess.Popen[bytes]:
    """Start a process that trains the configurations one after another."""
    values = json.dumps([config.to_json() for config in configs])
    return subprocess.Popen([sys.executable, "-c", PROGRAM, values, *map(str, folders)])


def digest(folder: Path) -> str:
    """SHA-256 of the weights of the last checkpoint."""
    from core.checkpointing.checkpoint import load

    digest = hashlib.sha256()
    for name, value in sorted(load(folder / "last.safetensors").model.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


CASES = [("pool", "adamw"), ("stride", "muon")]


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[str]]:
    """For each case, digests of three runs: two with the same seed in two processes, one with another seed."""
    root = tmp_path_factory.mktemp("digests")
    values = dict(path=str(write_balls(root / "data")), deterministic=True, epochs=2, precision="auto", samples_train=8)
    values |= dict(affine=1.0, elastic=1.0, intensity=0.5, noise=0.1)
    folders = {case: [root / f"{'-'.join(case)}-{name}" for name in ("once", "again", "other")] for case in CASES}
    configs = {
        case: [tiny(**values, downsampling=case[0], optimizer=case[1], seed=seed) for seed in (3, 3, 4)]
        for case in CASES
    }
    first, second = (
        start_training(
            [c for case in CASES for c in configs[case][part]], [f for case in CASES for f in folders[case][part]]
        )
        for part in (slice(1), slice(1, None))
    )
    assert [process.wait(timeout=300) for process in (first, second)] == [0, 0]
    return {case: [digest(folder) for folder in folders[case]] for case in CASES}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_same_seed_gives_bit_identical_weights(
    case: tuple[str, str], digests: dict[tuple[str, str], list[str]]
) -> None:
    once, again, other = digests[case]
    assert once == again != other


def test_previous_setting_is_restored() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        with deterministic(False):
            assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("size", [(4, 6, 8), (5, 7, 4)])
def test_deterministic_max_pooling_equals_torchs(size: Size3) -> None:
    """Values, and gradients where voxels are tied: the first one receives it."""
    x = torch.randint(0, 3, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    x_torch, x_ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.max_pool3d(x_torch, 2)
    with deterministic(True):
        pooled = MaxPool2()(x_ours)
    assert torch.equal(pooled, expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (expected * weight).sum().backward()
    (pooled * weight).sum().backward()
    assert x_torch.grad is not None and x_ours.grad is not None
    assert torch.equal(x_ours.grad, x_torch.grad)


def test_gradient_of_a_block_of_ties_goes_to_its_first_voxel() -> None:
    x = torch.zeros(1, 1, 2, 2, 2, requires_grad=True)
    with deterministic(True):
        MaxPool2()(x).sum().backward()
    assert x.grad is not None and x.grad[0, 0, 0, 0, 0] == 1 and x.grad.sum() == 1
