"""Batched augmentation (as on a GPU) equals the chunked one (as on a CPU); both run on the CPU here."""

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
EVERYTHING: dict[str, Any] = dict(flip=0.5, affine=0.7, elastic=0.6, elastic_voxels=3.0, intensity=0.6, noise=0.2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def region(batch: int, channels: int, shape: Size3) -> tuple[Tensor, Tensor]:
    image = torch.randn(batch, channels, *shape, generator=generator())
    label = torch.randint(0, 9, (batch, *shape), generator=generator(1), dtype=torch.uint8)
    return image, label


def drawn(size: Size3, batch: int, seed: int, **options: float) -> Warp:
    values = {**dict(affine=0.7, elastic=0.6, rotation_deg=40.0, scaling=0.2), **options}
    warp = draw_warp(AugmentConfig(**values), size, batch, generator(seed))  # type: ignore[arg-type]
    assert warp is not None
    return warp


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(20, 18, 16), (9, 12, 7)])
def test_batched_warp_equals_the_warp_of_each_sub_volume(size: Size3, seed: int) -> None:
    """Some of the five have no transform, some no elastic deformation, some are mirrored."""
    warp = drawn(size, 5, seed)
    margin = warp.margin(size)
    image, label = region(5, 2, tuple(n + 2 * m for n, m in zip(size, margin, strict=True)))  # type: ignore[arg-type]
    flips = [True, False, True, True, False]
    expected, chosen = apply_warp(image, label, warp, size, flips)
    moved, labels = apply_warp_batched(image, label, warp, size, flips)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=2e-3)
    assert (labels != chosen).float().mean() < 1e-3, "except halfway between two voxels"
    assert moved.dtype == torch.float32 and labels.dtype == torch.uint8 and moved.is_contiguous()


def test_batched_affine_warp_of_a_flat_region() -> None:
    size = (8, 8, 1)
    warp = drawn(size, 2, 1, elastic=0.0, rotation_deg=0.0)
    assert warp.control is None
    image, label = region(2, 1, (12, 12, 1))
    expected, chosen = apply_warp(image, label, warp, size, [False, True])
    moved, labels = apply_warp_batched(image, label, warp, size, [False, True])
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(labels, chosen)


def test_border_of_the_region_is_replicated() -> None:
    image, label = region(1, 1, (6, 6, 6))
    warp = Warp(torch.eye(3)[None] * 4, None)
    expected, chosen = apply_warp(image, label, warp, (6, 6, 6), [False])
    moved, labels = apply_warp_batched(image, label, warp, (6, 6, 6), [False])
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(labels, chosen)


def test_label_drawn_into_the_image_matches_the_warped_label() -> None:
    size = (24, 20, 16)
    warp = drawn(size, 6, 2)
    margin = warp.margin(size)
    shape: Any = tuple(n + 2 * m for n, m in zip(size, margin, strict=True))
    i, j, k = torch.meshgrid(*(torch.arange(n) - 0.45 * n for n in shape), indexing="ij")
    label = (i**2 + 2 * j**2 + k**2 < 120).to(torch.uint8).expand(6, *shape)
    moved, labels = apply_warp_batched(label[:, None].float(), label, warp, size, [True, False] * 3)
    assert set(labels.unique().tolist()) == {0, 1}
    assert ((moved[:, 0] > 0.5) == (labels > 0)).float().mean() > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_batched_intensity_equals_the_change_of_each_channel(seed: int) -> None:
    size = (12, 10, 9)
    image, _ = region(3, 2, size)
    image[:, :, :3] = 0
    config = AugmentConfig(**{**EVERYTHING, "noise": 0.0})
    changes = draw_intensity(config, 3, 2, size, generator(seed))
    assert any(change.is_identity for change in changes) or any(change.is_voxelwise for change in changes)
    expected = apply_intensity(image.clone(), changes)
    given = image.clone()
    changed = apply_intensity_batched(given, changes)
    assert changed.data_ptr() == given.data_ptr()
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)


def test_identity_changes_do_nothing() -> None:
    image, _ = region(2, 2, (6, 6, 6))
    assert torch.equal(apply_intensity_batched(image.clone(), [IntensityChange()] * 4), image)


def test_noise_has_its_std_spares_zeros_and_is_seeded() -> None:
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


class Count(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func.namespace == "aten" and "view" not in str(func) and "detach" not in str(func)
        return func(*args, **(kwargs or {}))


def counted(work: Callable[[], object]) -> int:
    work()  # fills the caches
    with Count() as count:
        work()
    return count.number


def test_number_of_operations_does_not_grow_with_the_batch() -> None:
    size = (12, 10, 9)
    numbers = []
    for batch, channels in ((1, 1), (2, 2), (8, 4)):
        warp = drawn(size, batch, 2, affine=1.0, elastic=1.0)
        image, label = region(batch, channels, (24, 22, 20))
        changes = draw_intensity(AugmentConfig(**{**EVERYTHING, "intensity": 1.0}), batch, channels, size, generator(3))

        def work() -> None:
            moved, _ = apply_warp_batched(image, label, warp, size, [True] * batch)  # noqa: B023
            apply_intensity_batched(moved, changes)  # noqa: B023

        numbers.append(counted(work))
    assert numbers[2] == numbers[1] < numbers[0] + 5, numbers
    assert numbers[0] < 140, "a few launches for each kind of change"


@pytest.mark.parametrize(
    "options", [EVERYTHING, dict(flip=1.0), dict(noise=0.5), dict(intensity=1.0), dict(affine=1.0), dict(flip=0.0)]
)
def test_augmenter_gives_the_same_on_a_device_as_on_a_cpu(options: dict[str, Any]) -> None:
    """Except for the noise."""
    rng = generator(5)
    image, label = torch.randn(2, 30, 28, 26, generator=rng), torch.randint(0, 3, (30, 28, 26), generator=rng)
    subject = TrainingSubject("s", image.numpy(), label.to(torch.uint8).numpy(), (1.0, 1.0, 1.0))
    subjects = ResidentSubjects([subject], CPU)
    off = dict(flip=0.0, affine=0.0, elastic=0.0, intensity=0.0, noise=0.0)
    augment = Augmenter(AugmentConfig(**{**off, **options, "noise": 0.0}), (14, 12, 10))
    locations = [PatchLocation(0, (5, 6, 7)), PatchLocation(0, (9, 8, 7)), PatchLocation(0, (-3, 20, 10))]
    for seed in range(3):
        params = augment.draw(locations, 2, generator(seed))
        cut, truth = subjects.crop(params.locations, params.region)
        before = cut.clone()
        expected, labels = augment.apply(cut, truth, params)
        assert torch.equal(cut, before), "the subject is not written to"
        found, same = augment._apply_batched(cut, truth, params)
        assert torch.equal(cut, before), "the subject is not written to"
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)
        assert (same != labels).float().mean() < 1e-3
