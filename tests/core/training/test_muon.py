"""Orthogonalisation against the SVD, steps against torch's Muon and AdamW, and the split of the parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models import resolve
from core.models.blocks import SegmentationNetwork, StageModule
from core.models.build import build_model
from core.training.muon import ADAMW_LR_SCALE, Muon, orthogonalise, split_parameters


@pytest.mark.parametrize("shape", [(8, 108), (108, 8), (16, 16), (1, 27)])
def test_orthogonal_factor_matches_the_svd(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalise([matrix])[0] / math.sqrt(max(1, shape[0] / shape[1]))
    assert ((torch.linalg.svdvals(found) - 1).abs() < 0.35).all()
    exact = left @ right
    alike = torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0)
    assert alike > 0.97


def test_zeros_stay_zero_and_the_norm_of_a_matrix_does_not_matter() -> None:
    zeros, matrix, long = orthogonalise([torch.zeros(3, 5), torch.randn(4, 9), torch.zeros(3, 7)])
    assert not zeros.any() and not long.any()
    matrix = torch.randn(4, 9)
    torch.testing.assert_close(orthogonalise([matrix]), orthogonalise([1e3 * matrix]))


def test_batched_matrices_do_not_affect_each_other() -> None:
    chance = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=chance) for shape in ((4, 9), (12, 4), (4, 20), (6, 6), (3, 4))]
    together = orthogonalise(matrices)
    for matrix, found in zip(matrices, together, strict=True):
        torch.testing.assert_close(found, orthogonalise([matrix])[0], rtol=1e-4, atol=1e-5)
        assert found.shape == matrix.shape and found.is_contiguous()


def test_only_kernels_of_hidden_convolutions_are_orthogonalised() -> None:
    config = ModelConfig(
        channels=(4, 8, 8), norm="instance", activation="leaky_relu", downsampling="stride", widening="after"
    )
    model = build_model(config, 1, 3)
    kernels, rest = split_parameters(model)
    names = {id(p): n for n, p in model.named_parameters()}
    assert len(kernels) + len(rest) == len(names)
    vectors = {n for n, p in model.named_parameters() if p.ndim == 1}
    assert {names[id(p)] for p in rest} == vectors | {"encoder.0.1.0.weight", "classifier.weight"}


@pytest.mark.parametrize("name", ["unet3d", "vnet", "densevoxelnet", "resenc_unet"])
def test_every_classifier_is_left_to_adamw(name: str) -> None:
    """With deep supervision the main classifier is not the convolution that was registered last."""
    model = build_model(ModelConfig(name, (4, 8, 8, 8), deep_supervision=True), 1, 3)
    kernels, rest = split_parameters(model)
    classifiers = [m for m in model.modules() if isinstance(m, nn.Conv3d) and m.out_channels == 3]
    assert len(classifiers) > 1
    rest_ids, kernel_ids = {id(p) for p in rest}, {id(p) for p in kernels}
    assert {id(m.weight) for m in classifiers} <= rest_ids
    assert not rest_ids & kernel_ids and len(rest) + len(kernels) == len(list(model.parameters()))


def test_matrices_that_are_no_weights_of_layers_are_left_to_adamw() -> None:
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Linear(4, 4), nn.MultiheadAttention(4, 2), nn.Conv3d(4, 2, 1))
    model.append(nn.Embedding(5, 4)).register_parameter("position", nn.Parameter(torch.zeros(5, 4)))
    kernels, _ = split_parameters(model)
    names = {id(p): n for n, p in model.named_parameters()}
    assert [names[id(p)] for p in kernels] == ["1.weight", "2.in_proj_weight", "2.out_proj.weight"]


def test_a_weight_that_a_hidden_layer_shares_with_the_classifier_is_left_to_adamw() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1))
    model.get_submodule("1").weight = model.get_submodule("2").weight
    assert split_parameters(model)[0] == []


def test_classifier_of_an_own_network_whose_last_stage_has_no_weights_is_left_to_adamw() -> None:
    class Own(SegmentationNetwork):
        def __init__(self) -> None:
            super().__init__(resolve(ModelConfig()), 1, 2)
            self.first, self.hidden, self.classifier = nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3), nn.Conv3d(4, 2, 1)
            self.up = nn.Upsample(scale_factor=2)

        def stages(self) -> list[StageModule]:
            return [StageModule("encoder", 0, self.first, True), StageModule("logits", 0, self.up)]

    own = Own()
    assert [id(p) for p in split_parameters(own)[0]] == [id(own.hidden.weight)]


def test_state_of_the_other_group_in_a_checkpoint_is_left_out() -> None:
    """As checkpoints have it whose optimizer took an inner classifier for the only one."""
    models = [nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 6, 3), nn.Conv3d(6, 2, 1)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    old, fresh = (Muon(model, 0.02, 0.95, 0.01) for model in models)
    hidden, classifier = models[0].get_parameter("1.weight"), models[0].get_parameter("2.weight")
    old.state[classifier] = {"momentum_buffer": torch.full_like(classifier, 7)}
    old.state[hidden] = {name: torch.ones_like(hidden) for name in ("step", "exp_avg", "exp_avg_sq")}
    for model, optimizer in zip(models, (old, fresh), strict=True):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(p, q) and old.state[p].keys() == fresh.state[q].keys()


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_steps_match_torch() -> None:
    torch.manual_seed(0)
    hidden = nn.Conv3d(4, 6, 3)
    model = nn.Sequential(nn.Conv3d(1, 4, 3), hidden, nn.Conv3d(6, 2, 1))
    middle = nn.Parameter(hidden.weight.detach().flatten(1).clone())
    others = [nn.Parameter(p.detach().clone()) for p in model.parameters() if p is not hidden.weight]
    mine = Muon(model, 0.02, 0.95, 0.01)
    peer = torch.optim.Muon([middle], lr=0.02, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original")
    adam = torch.optim.AdamW(others, lr=0.02 * ADAMW_LR_SCALE, weight_decay=0.01)
    start = middle.detach().clone()
    for seed in range(3):
        chance = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=chance)
        middle.grad = gradient_of(hidden.weight).flatten(1).clone()
        rest = [p for p in model.parameters() if p is not hidden.weight]
        for p, q in zip(others, rest, strict=True):
            p.grad = None if q.grad is None else q.grad.clone()
        mine.step()
        peer.step()
        adam.step()
    moved, expected = hidden.weight.detach().flatten(1) - start, middle.detach() - start
    assert torch.nn.functional.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.999
    assert float(moved.norm()) == pytest.approx(float(expected.norm()), rel=0.02), "torch computes in bfloat16"
    for p, q in zip(others, rest, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_step_with_found_inf_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 6, 3), nn.Conv3d(6, 2, 1))
    optimizer = Muon(model, 0.02, 0.95, 0.01)
    for p in model.parameters():
        p.grad = torch.full_like(p, math.nan)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert not any(bool(v.any()) for state in optimizer.state.values() for v in state.values())
    optimizer.found_inf = torch.zeros(())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
