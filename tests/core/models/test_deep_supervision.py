"""Deep supervision: extras in training only, and targets on their grids for images of any size."""

from __future__ import annotations

import itertools

import pytest
import torch

from core.config import ModelConfig
from core.models import MODELS
from core.models.blocks import NetworkOutput, pad_to_divisor
from core.models.build import build_model
from core.models.deep_supervision import DEEP_SUPERVISION, at_each_level

WITH_CHANNELS = [n for n, e in MODELS.items() if {"channels", "deep_supervision"} <= set(e.options)]


def config(name: str, levels: int = 4, *, deep_supervision: bool = True) -> ModelConfig:
    return ModelConfig(name, (4, 8, 8, 8)[:levels], deep_supervision=deep_supervision)


@pytest.mark.parametrize("name", WITH_CHANNELS)
def test_extras_are_logits_of_the_inner_levels_in_training_only(name: str) -> None:
    network = build_model(config(name), 1, 3)
    image = torch.randn(2, 1, 16, 24, 13)
    output = network(image)
    assert isinstance(output, NetworkOutput) and output.logits.shape == (2, 3, 16, 24, 13)
    assert [tuple(t.shape) for t in output.extras[DEEP_SUPERVISION]] == [(2, 3, 8, 12, 8)]
    sum(t.square().mean() for t in (output.logits, *output.extras[DEEP_SUPERVISION])).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert isinstance(network.eval()(image), torch.Tensor)


@pytest.mark.parametrize("name", WITH_CHANNELS)
def test_option_adds_its_classifiers_and_changes_nothing_else(name: str) -> None:
    networks = []
    for chosen in (False, True):
        torch.manual_seed(3)
        networks.append(build_model(config(name, deep_supervision=chosen), 2, 3))
    plain, deep = (network.state_dict() for network in networks)
    assert set(deep) - set(plain) == {"auxiliary.classifiers.1.weight", "auxiliary.classifiers.1.bias"}
    assert all(torch.equal(plain[key], deep[key]) for key in plain)
    assert isinstance(networks[0](torch.randn(1, 2, 8, 8, 8)), torch.Tensor)


@pytest.mark.parametrize(("levels", "supervised"), [(2, 0), (3, 1), (4, 1)])
def test_deepest_decoder_level_is_supervised_only_if_it_is_the_only_one(levels: int, supervised: int) -> None:
    output = build_model(config("unet3d", levels), 1, 2)(torch.randn(1, 1, 16, 16, 16))
    assert isinstance(output, NetworkOutput) and len(output.extras[DEEP_SUPERVISION]) == supervised


@pytest.mark.parametrize("size", [(16, 16, 16), (17, 5, 1), (3, 9, 31), (1, 1, 1), (24, 40, 13)])
def test_target_on_each_grid_is_the_voxel_at_the_centre_of_what_the_logits_cover(size: tuple[int, int, int]) -> None:
    """By the definition, one voxel at a time: position of every padded voxel in the image, border repeated."""
    divisor = 8
    target = torch.arange(2 * size[0] * size[1] * size[2]).view(2, *size)
    padded, _ = pad_to_divisor(target[:, None].float(), (divisor,) * 3)
    grids = [tuple(n // 2**level for n in padded.shape[2:]) for level in (1, 2)]
    auxiliary = [torch.arange(a * b * c).float().view(1, 1, a, b, c).expand(2, 3, -1, -1, -1) for a, b, c in grids]
    before = [(p - n) // 2 for p, n in zip(padded.shape[2:], size, strict=True)]
    for level, (logits, found) in enumerate(at_each_level(auxiliary, target), 1):
        step = 2**level
        kept = []
        for axis, n in enumerate(size):
            blocks = [
                range(u * step - before[axis], (u + 1) * step - before[axis]) for u in range(grids[level - 1][axis])
            ]
            kept.append([(u, block) for u, block in enumerate(blocks) if any(0 <= v < n for v in block)])
        assert found.shape == (2, *(len(blocks) for blocks in kept)) == (2, *logits.shape[2:])
        for places in itertools.product(*(range(len(blocks)) for blocks in kept)):
            chosen = [kept[axis][place] for axis, place in enumerate(places)]
            voxel = [min(max(block[step // 2], 0), n - 1) for (_, block), n in zip(chosen, size, strict=True)]
            (a, b, c), (i, j, k), (u, v, w) = places, voxel, (u for u, _ in chosen)
            assert torch.equal(found[:, a, b, c], target[:, i, j, k])
            assert torch.equal(logits[:, :, a, b, c], auxiliary[level - 1][:, :, u, v, w])


def test_target_without_padding_is_that_of_nearest_neighbours() -> None:
    target = torch.randint(0, 200, (2, 16, 32, 24), dtype=torch.uint8)
    auxiliary = [torch.zeros(2, 3, 16 // s, 32 // s, 24 // s) for s in (2, 4, 8)]
    for step, (_, found) in zip((2, 4, 8), at_each_level(auxiliary, target), strict=True):
        size = [n // step for n in target.shape[1:]]
        nearest = torch.nn.functional.interpolate(target[:, None].float(), size=size, mode="nearest-exact")[:, 0]
        assert torch.equal(found, nearest.to(torch.uint8)) and found.dtype == torch.uint8
