"""What holds for every loss: absent classes, ignored voxels, half precision, gradients, no synchronisation."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.choices import LossName
from core.config import LossConfig
from core.labels import IGNORE_INDEX
from core.losses.build import TERMS, LossFacts, LossFunction, build_loss
from core.losses.labelled import Labelled
from core.models.blocks import NetworkOutput
from tests.support.loss_cases import CLASSES, confident_logits, random_case, value_and_gradient

NAMES: tuple[LossName, ...] = tuple(n for n in typing.get_args(LossName) if n != "vae")
EVERY = pytest.mark.parametrize("name", NAMES)
FACTS = LossFacts(class_weights=(0.2, 0.5, 1.3, 2.0), spacing_mm=(1.0, 1.2, 3.0))

# Documented for torch.use_deterministic_algorithms as having no deterministic CUDA implementation in some case.
NOT_DETERMINISTIC_ON_CUDA = (
    "nll_loss", "pool3d", "upsample", "scatter", "index_add", "index_put", "put_", "histc", "bincount", "cumsum",
    "reflection_pad", "replication_pad", "grid_sample", "kthvalue", "median", "embedding",
)  # fmt: skip


def loss_of(name: LossName, ignore: bool = False, **options: Any) -> LossFunction:
    return build_loss(LossConfig(loss=name, **options), ignore, FACTS)


def region_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and a target of blocks, in which classes have boundaries and centre lines."""
    logits, _ = random_case(seed, (2, CLASSES, 8, 7, 6))
    target = torch.zeros(2, 8, 7, 6, dtype=torch.uint8)
    target[:, 1:4, 1:6, 1:5], target[:, 3:7, 2:4, 2:4], target[1, 6:, 4:] = 1, 2, 3
    return logits, target


def confident(name: LossName, claimed: Tensor) -> Tensor:
    """Confident logits: 20 for the claimed class, and for others -20, or 0 where the direction of logits counts."""
    logits = confident_logits(claimed.long(), CLASSES, 20.0 if name == "tags_angular" else 40.0)
    return logits if name == "tags_angular" else logits - 20


@EVERY
def test_perfect_prediction_has_next_to_no_loss(name: LossName) -> None:
    _, target = region_case()
    assert loss_of(name)(confident(name, target), target).item() == pytest.approx(0, abs=1e-5)


@EVERY
def test_class_absent_from_target_and_prediction_costs_nothing(name: LossName) -> None:
    target = region_case()[1].clamp_max(1)
    logits = confident(name, target).requires_grad_()
    value, gradient = value_and_gradient(loss_of(name)(logits, target), logits)
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert gradient.abs().max().item() < 1e-4


@EVERY
def test_false_positives_of_an_absent_class_are_penalised(name: LossName) -> None:
    target = region_case()[1].clamp_max(1)
    claimed = target.long()
    claimed[:, 5:, 5:, 4:] = 3
    logits = confident_logits(claimed, CLASSES, 4.0).requires_grad_()
    value, gradient = value_and_gradient(loss_of(name)(logits, target), logits)
    assert value > loss_of(name)(confident_logits(target.long(), CLASSES, 4.0), target)
    towards = (gradient[0, 3] - gradient[0, 0])[5:, 5:, 4:]
    assert towards.sum() > 0 and (name == "cldice" or (towards > 0).all()), "a centre line is moved, too"


@EVERY
@pytest.mark.parametrize("include_background", [True, False])
def test_empty_sub_volume_is_finite_and_learns_to_be_empty(name: LossName, include_background: bool) -> None:
    logits, target = random_case()[0].requires_grad_(), torch.zeros(2, 5, 6, 7, dtype=torch.uint8)
    loss = loss_of(name, include_background=include_background)
    value, gradient = value_and_gradient(loss(logits, target), logits)
    assert value.isfinite() and gradient.isfinite().all()
    assert loss(logits - 0.1 * gradient / gradient.norm(), target) < value
    assert loss(confident(name, target), target).item() == pytest.approx(0, abs=1e-5)


@EVERY
@pytest.mark.parametrize("batch_dice", [True, False])
def test_ignored_region_is_as_if_cropped(name: LossName, batch_dice: bool) -> None:
    logits, target = region_case()
    logits.requires_grad_()
    whole = target.clone()
    whole[:, 5:] = IGNORE_INDEX
    options = dict(batch_dice=batch_dice, include_background=False)
    value, gradient = value_and_gradient(loss_of(name, True, **options)(logits, whole), logits)
    cropped = loss_of(name, **options)(logits[:, :, :5], target[:, :5])
    expected, expected_gradient = value_and_gradient(cropped, logits)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
    assert not gradient[:, :, 5:].any(), "ignored voxels have no gradient"


@EVERY
def test_wholly_ignored_sub_volume_is_as_if_absent(name: LossName) -> None:
    logits, target = region_case()
    target[1] = IGNORE_INDEX
    value = loss_of(name, ignore=True)(logits, target)
    torch.testing.assert_close(value, loss_of(name)(logits[:1], target[:1]), rtol=1e-5, atol=1e-6)


@EVERY
@pytest.mark.parametrize("batch_dice", [True, False])
def test_batch_of_ignored_voxels_has_no_loss_and_no_gradient(name: LossName, batch_dice: bool) -> None:
    logits, target = random_case()
    logits.requires_grad_()
    everything = torch.full_like(target, IGNORE_INDEX)
    loss = loss_of(name, ignore=True, batch_dice=batch_dice)(logits, everything)
    value, gradient = value_and_gradient(loss, logits)
    assert value.item() == 0 and not gradient.any()


@EVERY
def test_without_ignored_voxels_the_loss_is_the_same(name: LossName) -> None:
    logits, target = region_case()
    value = loss_of(name, ignore=True)(logits, target)
    torch.testing.assert_close(value, loss_of(name)(logits, target), rtol=1e-6, atol=1e-7)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_loss_is_computed_in_float32_for_any_logits(name: LossName, dtype: torch.dtype) -> None:
    target = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    target[:, 4:20, 4:20, 4:20], target[:, 8:12, 8:20] = 1, 2
    logits = (3 * torch.randn((1, CLASSES, 24, 24, 24), generator=torch.Generator().manual_seed(1))).to(dtype)
    expected = loss_of(name)(logits.float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(name)(logits.requires_grad_(), target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    found.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@EVERY
@pytest.mark.parametrize("logit", [6e4, 0.0])
def test_extreme_and_equal_logits_stay_finite(name: LossName, logit: float) -> None:
    _, target = region_case()
    wrong = ((target + 1) % CLASSES).long()
    for claimed in (wrong, target.long()):
        logits = confident_logits(claimed, CLASSES, logit).half().requires_grad_()
        value, gradient = value_and_gradient(loss_of(name, ignore=True)(logits, target), logits)
        assert value.isfinite() and gradient.isfinite().all()


@EVERY
@pytest.mark.parametrize("ignore", [False, True])
def test_gradient_equals_finite_differences_in_float64(name: LossName, ignore: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((1, 3, 2, 3, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (1, 2, 3, 3), generator=generator)
    if ignore:
        target[:, 1, 1:] = IGNORE_INDEX
    labelled = Labelled.of(logits, target, ignore)
    config = LossConfig(loss=name, include_background=False, skeleton_iterations=2)
    facts = LossFacts((0.2, 0.5, 1.3))

    def loss(x: Tensor) -> Tensor:
        return TERMS[name](Labelled(x, labelled.onehot, labelled.counted), config, facts)

    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-6, atol=1e-5, rtol=1e-4)


@EVERY
@pytest.mark.parametrize("ignore", [False, True])
def test_loss_never_synchronises_with_the_device(name: LossName, ignore: bool) -> None:
    # Tensors on the meta device have no values: operations that need them (item, bool, nonzero) raise.
    logits = torch.empty(2, CLASSES, 4, 5, 6, device="meta", requires_grad=True)
    target = torch.empty(2, 4, 5, 6, device="meta", dtype=torch.uint8)
    loss = loss_of(name, ignore, batch_dice=True, include_background=False)(logits, target)
    assert loss.shape == ()
    loss.backward()


@EVERY
def test_no_operation_without_a_deterministic_cuda_implementation_is_used(name: LossName) -> None:
    class Recorder(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: set[str] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.add(func.__name__)
            return func(*args, **(kwargs or {}))

    logits, target = region_case()
    with Recorder() as recorder:
        loss_of(name, ignore=True)(logits.requires_grad_(), target).backward()
    assert len(recorder.names) > 5
    used = [op for op in recorder.names if any(word in op for word in NOT_DETERMINISTIC_ON_CUDA)]
    assert not used, used
    copied = [op for op in recorder.names if op.startswith(("_local_scalar_dense", "lift_fresh"))]
    assert not copied, f"{copied} copy numbers between host and device"


@EVERY
def test_a_few_steps_reduce_the_loss(name: LossName) -> None:
    _, target = region_case()
    logits = torch.zeros(2, CLASSES, *target.shape[1:]).normal_(generator=torch.Generator().manual_seed(5))
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_of(name)(logits, target)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.2 * values[0]
    assert (logits.argmax(1) == target).float().mean() > 0.98


@EVERY
@pytest.mark.parametrize("dtype", [torch.int16, torch.int64])
def test_target_may_be_any_integer_type(name: LossName, dtype: torch.dtype) -> None:
    logits, target = region_case()
    assert loss_of(name)(logits, target.to(dtype)) == loss_of(name)(logits, target)


@EVERY
@pytest.mark.parametrize("sizes", [[(4, 4, 3)], [(4, 4, 3), (2, 2, 2)], []])
def test_deep_supervision_is_the_weighted_mean_of_the_levels(name: LossName, sizes: Iterable[tuple[int, ...]]) -> None:
    logits, target = region_case()
    levels = [2 * torch.randn((2, CLASSES, *size), generator=torch.Generator().manual_seed(7)) for size in sizes]
    loss = loss_of(name, ignore=True)
    value = loss(NetworkOutput(logits, {"deep_supervision": tuple(levels)}), target)
    terms, weights = [loss(logits, target)], [1.0]
    config = LossConfig(loss=name)
    for n, level in enumerate(levels, 1):
        centres = [(torch.arange(s) * 2**n + 2 ** (n - 1) - (s * 2**n - d) // 2).clamp(0, d - 1) for s, d in zip(
            level.shape[2:], target.shape[1:], strict=True)]  # fmt: skip
        at_level = target[:, centres[0]][:, :, centres[1]][:, :, :, centres[2]]
        terms.append(TERMS[name](Labelled.of(level, at_level, True, 2**n), config, FACTS))
        weights.append(0.5**n)
    expected = sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    if not levels:
        assert value == loss(logits, target)


@pytest.mark.parametrize("name", typing.get_args(LossName))
def test_logits_alone_are_enough_in_a_validation(name: LossName) -> None:
    logits, target = region_case()
    value = loss_of(name)(logits, target)
    assert value.isfinite()
    if name == "vae":
        assert value == loss_of("dice")(logits, target)
