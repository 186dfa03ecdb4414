"""Batched augmentation (used on a GPU) equals augmentation in chunks (used on a CPU); both run on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.augmentation.augmenter import Augmenter
from core.augmentation.batched import apply_intensity_batched, apply_warp_batched
from core.augmentation.intensity import IntensityChange, apply_intensity, draw_intensity
from core.augmentation.warp import Warp, apply_warp, draw_warp
from core.config import AugmentConfig
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.types import Size3, TrainingSubject

CPU = torch.device("cpu")
ALL_OPERATIONS: dict[str, Any] = dict(flip=0.5, affine=0.7, elastic=0.6, elastic_voxels=3.0, intensity=0.6, noise=0.2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def region(batch: int, channels: int, shape: Size3) -> tuple[Tensor, Tensor]:
    image = torch.randn(batch, channels, *shape, generator=generator())
    label = torch.randint(0, 9, (batch, *shape), generator=generator(1), dtype=torch.uint8)
    return image, label


def make_warp(size: Size3, batch: int, seed: int, **options: float) -> Warp:
    values = {**dict(affine=0.7, elastic=0.6, rotation_deg=40.0, scaling=0.2), **options}
    warp = draw_warp(AugmentConfig(**values), size, batch, generator(seed))  # type: ignore[arg-type]
    assert warp is not None
    return warp


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(20, 18, 16), (9, 12, 7)])
def test_batched_warp_equals_the_warp_of_each_sub_volume(size: Size3, seed: int) -> None:
    """The five sub-volumes include ones without a transform, without elastic deformation, and mirrored ones."""
    warp = make_warp(size, 5, seed)
    margin = warp.margin(size)
    image, label = region(5, 2, tuple(n + 2 * m for n, m in zip(size, margin, strict=True)))  # type: ignore[arg-type]
    flips = [True, False, True, True, False]
    expected, expected_label = apply_warp(image, label, warp, size, flips)
    warped, warped_label = apply_warp_batched(image, label, warp, size, flips)
    torch.testing.assert_close(warped, expected, rtol=1e-3, atol=2e-3)
    assert (warped_label != expected_label).float().mean() < 1e-3, "labels may differ only halfway between two voxels"
    assert warped.dtype == torch.float32 and warped_label.dtype == torch.uint8 and warped.is_contiguous()


def test_batched_affine_warp_of_a_single_slice() -> None:
    size = (8, 8, 1)
    warp = make_warp(size, 2, 1, elastic=0.0, rotation_deg=0.0)
    assert warp.control is None
    image, label = region(2, 1, (12, 12, 1))
    expected, expected_label = apply_warp(image, label, warp, size, [False, True])
    warped, warped_label = apply_warp_batched(image, label, warp, size, [False, True])
    torch.testing.assert_close(warped, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(warped_label, expected_label)


def test_border_of_the_region_is_replicated() -> None:
    image, label = region(1, 1, (6, 6, 6))
    warp = Warp(torch.eye(3)[None] * 4, None)
    expected, expected_label = apply_warp(image, label, warp, (6, 6, 6), [False])
    warped, warped_label = apply_warp_batched(image, label, warp, (6, 6, 6), [False])
    torch.testing.assert_close(warped, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(warped_label, expected_label)


def test_warped_image_of_a_label_matches_the_warped_label() -> None:
    size = (24, 20, 16)
    warp = make_warp(size, 6, 2)
    margin = warp.margin(size)
    shape: Any = tuple(n + 2 * m for n, m in zip(size, margin, strict=True))
    i, j, k = torch.meshgrid(*(torch.arange(n) - 0.45 * n for n in shape), indexing="ij")
    label = (i**2 + 2 * j**2 + k**2 < 120).to(torch.uint8).expand(6, *shape)
    warped, warped_label = apply_warp_batched(label[:, None].float(), label, warp, size, [True, False] * 3)
    assert set(warped_label.unique().tolist()) == {0, 1}
    assert ((warped[:, 0] > 0.5) == (warped_label > 0)).float().mean() > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_batched_intensity_equals_the_change_per_channel(seed: int) -> None:
    size = (12, 10, 9)
    image, _ = region(3, 2, size)
    image[:, :, :3] = 0
    config = AugmentConfig(**{**ALL_OPERATIONS, "noise": 0.0})
    changes = draw_intensity(config, 3, 2, size, generator(seed))
    assert any(change.is_identity for change in changes) or any(change.is_voxelwise for change in changes)
    expected = apply_intensity(image.clone(), changes)
    in_place = image.clone()
    changed = apply_intensity_batched(in_place, changes)
    assert changed.data_ptr() == in_place.data_ptr()
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)


def test_identity_change_leaves_the_image_unchanged() -> None:
    image, _ = region(2, 2, (6, 6, 6))
    assert torch.equal(apply_intensity_batched(image.clone(), [IntensityChange()] * 4), image)


def test_noise_has_the_given_std_leaves_zeros_and_is_seeded() -> None:
    image = torch.ones(2, 1, 32, 32, 32)
    image[:, :, :4] = 0
    changes = [IntensityChange(noise_std=0.5, noise_seed=7), IntensityChange()]
    first = apply_intensity_batched(image.clone(), changes)
    assert float((first[0, 0, 4:] - 1).std()) == pytest.approx(0.5, rel=0.02)
    assert float(first[0, 0, 4:].mean()) == pytest.approx(1, abs=0.02)
    assert not first[:, :, :4].any() and torch.equal(first[1], image[1])
    assert torch.equal(apply_intensity_batched(image.clone(), changes), first)
    other = apply_intensity_batched(image.clone(), [IntensityChange(noise_std=0.5, noise_seed=8), IntensityChange()])
    assert not torch.equal(other, first)


class OperationCounter(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func.namespace == "aten" and "view" not in str(func) and "detach" not in str(func)
        return func(*args, **(kwargs or {}))


def count_operations(work: Callable[[], object]) -> int:
    work()  # fills the caches
    with OperationCounter() as counter:
        work()
    return counter.number


def test_number_of_operations_does_not_grow_with_the_batch() -> None:
    size = (12, 10, 9)
    numbers = []
    for batch, channels in ((1, 1), (2, 2), (8, 4)):
        warp = make_warp(size, batch, 2, affine=1.0, elastic=1.0)
        image, label = region(batch, channels, (24, 22, 20))
        changes = draw_intensity(
            AugmentConfig(**{**ALL_OPERATIONS, "intensity": 1.0}), batch, channels, size, generator(3)
        )

        def work() -> None:
            warped, _ = apply_warp_batched(image, label, warp, size, [True] * batch)  # noqa: B023
            apply_intensity_batched(warped, changes)  # noqa: B023

        numbers.append(count_operations(work))
    assert numbers[2] == numbers[1] < numbers[0] + 5, numbers
    assert numbers[0] < 140, "a few kernel launches per kind of change"


@pytest.mark.parametrize(
    "options", [ALL_OPERATIONS, dict(flip=1.0), dict(noise=0.5), dict(intensity=1.0), dict(affine=1.0), dict(flip=0.0)]
)
def test_batched_augmenter_equals_chunked_augmenter(options: dict[str, Any]) -> None:
    """Noise is off: batched noise has other values of the same distribution."""
    rng = generator(5)
    image, label = torch.randn(2, 30, 28, 26, generator=rng), torch.randint(0, 3, (30, 28, 26), generator=rng)
    subject = TrainingSubject("s", image.numpy(), label.to(torch.uint8).numpy(), (1.0, 1.0, 1.0))
    subjects = ResidentSubjects([subject], CPU)
    off = dict(flip=0.0, affine=0.0, elastic=0.0, intensity=0.0, noise=0.0)
    augment = Augmenter(AugmentConfig(**{**off, **options, "noise": 0.0}), (14, 12, 10))
    locations = [PatchLocation(0, (5, 6, 7)), PatchLocation(0, (9, 8, 7)), PatchLocation(0, (-3, 20, 10))]
    for seed in range(3):
        params = augment.draw(locations, 2, generator(seed))
        cropped, truth = subjects.crop(params.locations, params.region)
        before = cropped.clone()
        expected, expected_label = augment.apply(cropped, truth, params)
        assert torch.equal(cropped, before), "the cropped image is not modified"
        batched, batched_label = augment._apply_batched(cropped, truth, params)
        assert torch.equal(cropped, before), "the cropped image is not modified"
        torch.testing.assert_close(batched, expected, rtol=1e-3, atol=2e-3)
        assert (batched_label != expected_label).float().mean() < 1e-3
