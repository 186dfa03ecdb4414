"""Spatial augmentation: image and label are transformed alike, labels get no new values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.augmentation import intensity as intensities
from core.augmentation import warp as warping
from core.augmentation.augmenter import Augmenter
from core.augmentation.warp import Warp, apply_warp, draw_warp, flip, nearest, trilinear
from core.labels import IGNORE_INDEX
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.types import Size3, VoxelIndex
from tests.support.augmentation import SPATIAL, config, generator, on_cpu, textured

spatial_kinds = pytest.mark.parametrize("kind", SPATIAL)


def blob(shape: Size3) -> ResidentSubjects:
    """A smooth bright ellipsoid off the centre; class 1 where it exceeds 0.5."""
    image = np.ones(shape)
    for axis, (n, at, width) in enumerate(zip(shape, (0.45, 0.55, 0.47), (10, 8, 9), strict=True)):
        profile = np.exp(-0.5 * ((np.arange(n) - at * n) / width) ** 2)
        image *= np.expand_dims(profile, [a for a in range(3) if a != axis])
    return on_cpu(image[None], image > 0.5)


def dice(one: Tensor, other: Tensor) -> float:
    return (2 * (one & other).sum() / (one.sum() + other.sum())).item()


def gaussian_at(centre: tuple[float, float, float], region: Size3) -> Tensor:
    """A bright blob (1, 1, i, j, k) at a distance in voxels from the centre of a region."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 - c for n, c in zip(region, centre, strict=True)]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    return torch.exp(-0.5 * (i**2 + j**2 + k**2) / 1.5**2)[None, None]


def centre_of(image: Tensor) -> list[float]:
    """Centre of mass in voxels from the centre."""
    size = image.shape[-3:]
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return ((grid * image).sum(dim=(1, 2, 3)) / image.sum()).tolist()


def about(axis: int, degrees: float) -> Tensor:
    """The textbook rotation matrix about i, j or k, (1, 3, 3)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = [
        [[1, 0, 0], [0, c, -s], [0, s, c]],
        [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    ]
    return torch.tensor([rows[axis]], dtype=torch.float32)


# --- no augmentation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(3, 2, 1), (-4, 9, 0)])
def test_without_augmentation_the_result_equals_the_crop(start: VoxelIndex) -> None:
    subjects, size = textured((20, 18, 16)), (8, 10, 12)
    locations = [PatchLocation(0, start), PatchLocation(0, (0, 0, 0))]
    image, label = Augmenter(config(), size)(subjects, locations, generator())
    plain_image, plain_label = subjects.crop(locations, size)
    assert torch.equal(image, plain_image)
    assert torch.equal(label, plain_label)


def test_identity_warp_equals_the_crop() -> None:
    subjects, size = textured((20, 18, 16)), (8, 11, 12)
    locations = [PatchLocation(0, (3, 2, 1)), PatchLocation(0, (-4, 9, 0))]
    still = config(affine=1.0, rotation_deg=0.0, scaling=0.0, elastic=1.0, elastic_voxels=0.0)
    hardly = config(affine=1.0, rotation_deg=1e-5, scaling=1e-7, elastic=1.0, elastic_voxels=1e-6)
    plain_image, plain_label = subjects.crop(locations, size)
    for nothing in (still, hardly):
        image, label = Augmenter(nothing, size)(subjects, locations, generator())
        torch.testing.assert_close(image, plain_image, rtol=1e-4, atol=1e-4)
        assert torch.equal(label, plain_label)


def test_untransformed_sub_volumes_of_a_batch_equal_the_crop() -> None:
    subjects, size = textured((30, 30, 30)), (8, 8, 8)
    locations = [PatchLocation(0, (11, 11, 11))] * 12
    image, label = Augmenter(config(affine=0.5, rotation_deg=90.0), size)(subjects, locations, generator())
    plain_image, plain_label = subjects.crop(locations, size)
    stayed = [n for n in range(12) if torch.equal(label[n], plain_label[n])]
    assert 2 < len(stayed) < 10
    assert torch.equal(image[stayed], plain_image[stayed])


# --- image and label together -----------------------------------------------------------------------------------------


@spatial_kinds
def test_image_and_label_are_transformed_alike(kind: str) -> None:
    subjects, size = blob((40, 38, 36)), (36, 34, 32)
    locations = [PatchLocation(0, (2, 2, 2))] * 4
    image, label = Augmenter(config(**SPATIAL[kind]), size)(subjects, locations, generator())
    plain_image, _ = subjects.crop(locations, size)
    assert (image - plain_image).abs().amax(dim=(1, 2, 3, 4)).median() > 0.1
    for n in range(len(locations)):
        assert dice(image[n, 0] > 0.5, label[n] == 1) > 0.95


def test_flips_mirror_left_and_right_exactly() -> None:
    subjects, size = textured((12, 11, 10)), (8, 6, 7)
    locations = [PatchLocation(0, (n, 1, 2)) for n in range(4)]
    image, label = Augmenter(config(flip=1.0), size)(subjects, locations, generator())
    plain_image, plain_label = subjects.crop(locations, size)
    np.testing.assert_array_equal(image.numpy(), plain_image.numpy()[:, :, ::-1])
    np.testing.assert_array_equal(label.numpy(), plain_label.numpy()[:, ::-1])


def test_flip_mirrors_the_chosen_sub_volumes_image_and_label_alike() -> None:
    image = torch.arange(4.0).reshape(1, 1, 4, 1, 1).repeat(200, 1, 1, 1, 1)
    chosen = (torch.rand(200, generator=generator()) < 0.5).tolist()
    moved, label = flip(image, image[:, 0].to(torch.uint8), chosen)
    assert torch.equal(moved[:, 0].to(torch.uint8), label)
    assert 70 < (label[:, 0, 0, 0] == 3).sum() < 130
    assert torch.equal(image[0].flatten(), torch.arange(4.0))


@spatial_kinds
def test_labels_get_no_new_values(kind: str) -> None:
    subjects, size = textured((16, 16, 16)), (16, 12, 8)
    locations = [PatchLocation(0, (0, 2, 4)), PatchLocation(0, (-5, 9, 3)), PatchLocation(0, (1, 1, 1))]
    _, label = Augmenter(config(**SPATIAL[kind], intensity=1.0, noise=1.0), size)(subjects, locations, generator())
    assert label.dtype == torch.uint8
    assert set(label.unique().tolist()) == {0, 3, 200}


# --- transforms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [90.0, -90.0, 30.0, -75.0])
def test_rotation_moves_a_marker_by_the_inverse_matrix(axis: int, degrees: float) -> None:
    region, size, marker = (27, 23, 25), (21, 19, 17), (3.0, -2.0, 4.0)
    image = gaussian_at(marker, region)
    matrix = about(axis, degrees)
    moved, label = apply_warp(image, (image[:, 0] > 0.5).to(torch.uint8), Warp(matrix, None), size)
    # The warped sub-volume at x is the region at M x: the marker at y moves to the inverse rotation of y.
    expected = (about(axis, -degrees)[0] @ torch.tensor(marker)).tolist()
    assert moved.shape == (1, 1, *size) and label.shape == (1, *size)
    assert centre_of(moved[0, 0]) == pytest.approx(expected, abs=0.05)
    assert centre_of(label[0].float()) == pytest.approx(expected, abs=0.35)


def test_quarter_turn_by_hand() -> None:
    image = torch.zeros(1, 1, 9, 11, 13)
    image[0, 0, 4 + 1, 5 + 2, 6 + 3] = 1  # at (1, 2, 3) from the middle
    moved, label = apply_warp(image, image[:, 0].to(torch.uint8), Warp(about(2, 90.0), None), (7, 7, 7))
    # About k: j turns to i and i to -j.
    assert torch.equal(label.nonzero(), torch.tensor([[0, 3 + 2, 3 - 1, 3 + 3]]))
    assert moved[0, 0, 5, 2, 6].item() == pytest.approx(1, abs=1e-4)
    assert moved.sum().item() == pytest.approx(1, abs=1e-4)


def test_scaling_is_about_the_centre_axis_by_axis() -> None:
    image = gaussian_at((4.0, -3.0, 2.0), (31, 31, 31))
    warp = Warp(torch.diag(torch.tensor([2.0, 1.0, 0.5]))[None], None)
    moved, _ = apply_warp(image, (image[:, 0] > 0.5).to(torch.uint8), warp, (21, 21, 25))
    assert centre_of(moved[0, 0]) == pytest.approx([2.0, -3.0, 4.0], abs=0.05)


def test_constant_displacement_is_a_shift() -> None:
    image = torch.randn(1, 2, 14, 13, 12, generator=generator())
    label = torch.randint(0, 5, (1, 14, 13, 12), generator=generator(), dtype=torch.uint8)
    control = torch.tensor([1.0, -2.0, 0.0])[None, :, None, None, None].expand(1, 3, 4, 4, 4)
    moved, chosen = apply_warp(image, label, Warp(torch.eye(3)[None], control), (8, 7, 6))
    torch.testing.assert_close(moved, image[:, :, 4:12, 1:8, 3:9], rtol=1e-4, atol=1e-4)
    assert torch.equal(chosen, label[:, 4:12, 1:8, 3:9])


def test_drawn_matrices_are_rotations_within_the_limit() -> None:
    warp = draw_warp(config(affine=1.0, rotation_deg=20.0, scaling=0.0), (8, 8, 8), 200, generator())
    assert warp is not None and warp.control is None
    torch.testing.assert_close(warp.matrix @ warp.matrix.mT, torch.eye(3).expand(200, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(warp.matrix) > 0).all()
    trace = warp.matrix.diagonal(dim1=1, dim2=2).sum(dim=1)
    degrees = torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).arccos())
    assert 20 < degrees.max() < 20 * math.sqrt(3) + 1
    assert degrees.min() < 10


def test_drawn_scales_stay_within_the_limit() -> None:
    warp = draw_warp(config(affine=1.0, rotation_deg=0.0, scaling=0.3), (8, 8, 8), 200, generator())
    assert warp is not None
    scales = warp.matrix.diagonal(dim1=1, dim2=2)
    assert torch.equal(warp.matrix, torch.diag_embed(scales))
    assert 0.7 <= scales.min() < 0.72
    assert 1.28 < scales.max() <= 1.3


@pytest.mark.parametrize(
    ("size", "thin", "turns"),
    [
        ((32, 32, 8), [2], [2]),
        ((8, 30, 30), [0], [0]),
        ((128, 40, 8), [2], []),  # nor in the plane of the slices: 128 is more than three times 40
        ((32, 8, 8), [], [0]),  # long, but without slices
        ((24, 24, 8), [], [0, 1, 2]),
    ],
)
def test_thin_sub_volumes_are_transformed_within_their_slices(size: Size3, thin: list[int], turns: list[int]) -> None:
    """``turns``: axes about which is rotated."""
    rotated = draw_warp(config(affine=1.0, rotation_deg=45.0, scaling=0.0), size, 20, generator())
    scaled = draw_warp(config(affine=1.0, rotation_deg=0.0, scaling=0.3, elastic=1.0), size, 20, generator())
    assert rotated is not None and scaled is not None and scaled.control is not None
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        moved = rotated.matrix[:, one, other].abs() > 1e-6
        assert moved.all() if axis in turns else not moved.any()
        changed = (scaled.matrix[:, axis, axis] - 1).abs() > 1e-6
        assert not changed.any() if axis in thin else changed.all()
        assert bool(scaled.control[:, axis].any()) == (axis not in thin)


def test_a_volume_of_one_slice_stays_in_the_sub_volume() -> None:
    subjects = on_cpu(np.ones((1, 64, 64, 1)), np.ones((64, 64, 1)))
    augment = Augmenter(config(affine=1.0, rotation_deg=45.0, scaling=0.2, elastic=1.0), (16, 16, 4))
    for seed in range(4):
        for corner in (-3, -1, 0):
            _, label = augment(subjects, [PatchLocation(0, (24, 24, corner))], generator(seed))
            assert label.sum() == 16 * 16 and (label[..., -corner] == 1).all()


# --- margin -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16, 8), (8, 12, 16)])
@pytest.mark.parametrize(
    "options",
    [
        dict(affine=1.0, rotation_deg=180.0, scaling=0.4),
        dict(affine=1.0, rotation_deg=90.0, scaling=0.0),
        dict(affine=0.5, rotation_deg=180.0, elastic=0.5, elastic_voxels=3.0),
        dict(elastic=1.0, elastic_voxels=4.0),
    ],
)
def test_margin_is_large_enough_to_read_no_padding_inside_the_subject(size: Size3, options: dict[str, Any]) -> None:
    subjects = on_cpu(np.ones((1, 64, 64, 64)), np.ones((64, 64, 64)))
    augment = Augmenter(config(**options), size)
    for seed in range(4):
        image, label = augment(subjects, [PatchLocation(0, (24, 24, 24))] * 4, generator(seed))
        torch.testing.assert_close(image, torch.ones_like(image), rtol=0, atol=1e-4)
        assert (label == 1).all()


def test_margin_by_hand() -> None:
    quarter = Warp(about(0, 90.0), None)
    assert quarter.margin((17, 17, 9)) == (1, 1, 5)  # j, 8 to each side, turns into k, where there are 4
    assert Warp(torch.eye(3)[None], None).margin((9, 9, 9)) == (1, 1, 1)
    assert Warp(0.5 * torch.eye(3)[None], None).margin((9, 9, 9)) == (1, 1, 1)
    assert Warp(1.5 * torch.eye(3)[None], None).margin((9, 9, 17)) == (3, 3, 5)
    control = torch.zeros(1, 3, 4, 4, 4)
    control[0, 1, 2, 3, 0] = -2.5
    assert Warp(torch.eye(3)[None], control).margin((9, 9, 9)) == (1, 4, 1)
    both = torch.cat((about(0, 90.0), about(1, 90.0)))
    assert Warp(both, None).margin((17, 13, 9)) == (1, 1, 5)


# --- random numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [*SPATIAL.values(), dict(flip=0.5), dict(intensity=0.5), dict(noise=0.5)], ids=str)
def test_result_depends_only_on_the_generator(options: dict[str, Any]) -> None:
    subjects, size = textured((20, 20, 20)), (10, 9, 8)
    locations = [PatchLocation(0, (n, 2, 3)) for n in range(6)]
    augment = Augmenter(config(**options), size)
    image, label = augment(subjects, locations, generator(1))
    torch.manual_seed(5)  # the global generator is not used
    again, same_label = augment(subjects, locations, generator(1))
    other, _ = augment(subjects, locations, generator(2))
    assert torch.equal(image, again) and torch.equal(label, same_label)
    assert not torch.equal(image, other)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("options", [{}, *SPATIAL.values(), dict(flip=1.0), dict(intensity=1.0, noise=0.2)], ids=str)
def test_draw_then_apply_equals_the_call(options: dict[str, Any], count: int) -> None:
    subjects, size = textured((20, 20, 20)), (10, 9, 8)
    locations = [PatchLocation(0, (n, 2, 3)) for n in range(count)]
    augment = Augmenter(config(**options), size)
    image, label = augment(subjects, locations, generator(1))
    params = augment.draw(locations, 2, generator(1))
    region = subjects.crop(params.locations, params.region)
    before = [tensor.clone() for tensor in region]
    for _ in range(2):
        later = augment.apply(*region, params)
        assert torch.equal(later[0], image) and torch.equal(later[1], label)
    assert all(torch.equal(tensor, was) for tensor, was in zip(region, before, strict=True)), "not written to"


# --- interpolation ----------------------------------------------------------------------------------------------------


def random_coordinates(shape: Size3, count: int) -> Tensor:
    """Random coordinates (3, count), some of them on the border."""
    last = torch.tensor(shape)[:, None] - 1.0
    inside = torch.rand(3, count, generator=generator(4)) * last
    ends = torch.randint(0, 2, (3, count), generator=generator(5)) * last
    return torch.where(torch.rand(3, count, generator=generator(6)) < 0.2, ends, inside)


@pytest.mark.parametrize("exact", [0, 2**24])
@pytest.mark.parametrize("shape", [(9, 7, 8), (2, 3, 2), (1, 6, 5)])
def test_interpolation_equals_grid_sample(shape: Size3, exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warping, "EXACT_VOXELS", exact)
    image = torch.randn(3, *shape, generator=generator())
    label = torch.randint(0, 255, shape, generator=generator(), dtype=torch.uint8)
    coordinates = random_coordinates(shape, 500)
    grid = (coordinates / (torch.tensor(shape)[:, None] - 1).clamp_min(1) * 2 - 1).flip(0).T[None, None, None]
    options = dict(padding_mode="border", align_corners=True)
    expected = torch.nn.functional.grid_sample(image[None], grid, **options).view(3, -1)  # type: ignore[arg-type]
    torch.testing.assert_close(trilinear(image, coordinates), expected, rtol=1e-5, atol=1e-5)
    chosen = torch.nn.functional.grid_sample(label[None, None].float(), grid, mode="nearest", **options)  # type: ignore[arg-type]
    assert torch.equal(nearest(label, coordinates), chosen.flatten().to(torch.uint8))
    assert not trilinear(image, coordinates[:, :0]).numel()


def test_chunked_warp_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    region, size = (26, 24, 22), (20, 18, 16)
    image = torch.randn(2, 2, *region, generator=generator())
    label = torch.randint(0, 9, (2, *region), generator=generator(), dtype=torch.uint8)
    warp = draw_warp(config(affine=1.0, elastic=1.0), size, 2, generator(3))
    assert warp is not None
    monkeypatch.setattr(intensities, "CHUNK_VOXELS", 1000)
    moved, chosen = apply_warp(image, label, warp, size, [True, False])
    monkeypatch.setattr(intensities, "CHUNK_VOXELS", 2**30)
    again, same = apply_warp(image, label, warp, size, [True, False])
    torch.testing.assert_close(again, moved, rtol=1e-4, atol=1e-4)
    assert torch.equal(same, chosen)


@spatial_kinds
def test_warp_with_flip_equals_flip_after_warp(kind: str) -> None:
    region, size = (40, 40, 40), (12, 11, 10)
    image = torch.randn(3, 2, *region, generator=generator())
    label = torch.randint(0, 9, (3, *region), generator=generator(), dtype=torch.uint8)
    warp = draw_warp(config(**SPATIAL[kind]), size, 3, generator(1))
    assert warp is not None
    moved, chosen = apply_warp(image, label, warp, size)
    mirrored, same = apply_warp(image, label, warp, size, [True, False, True])
    expected, labels = flip(moved, chosen, [True, False, True])
    torch.testing.assert_close(mirrored, expected, rtol=1e-4, atol=1e-4)
    assert (same == labels).float().mean() > 0.999


@spatial_kinds
def test_ignored_voxels_stay_ignored_and_the_padding_is_background(kind: str) -> None:
    label = np.zeros((20, 22, 18), np.uint8)
    label[:, :8] = IGNORE_INDEX
    subjects = on_cpu(np.random.default_rng(0).normal(size=(1, *label.shape)), label)
    augmenter = Augmenter(config(**SPATIAL[kind]), (16, 16, 16))
    _, augmented = augmenter(subjects, [PatchLocation(0, (-4, -4, 6))] * 2, generator())
    assert set(augmented.unique().tolist()) == {0, IGNORE_INDEX}


@pytest.mark.slow
def test_a_device_without_the_batched_operators_is_augmented_as_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = config(affine=1.0, elastic=1.0, intensity=1.0, noise=0.1)
    chance = torch.Generator().manual_seed(0)
    augmenter = Augmenter(changes, (8, 8, 8))
    params = augmenter.draw([PatchLocation(0, (0, 0, 0))], 1, chance)
    image = torch.randn(1, 1, *params.region, generator=chance)
    label = torch.randint(0, 3, (1, *params.region), generator=chance).to(torch.uint8)
    expected = augmenter.apply(image, label, params)
    monkeypatch.setattr("core.augmentation.augmenter.AUGMENTED_ON_CPU", ("cpu",))
    for one, other in zip(augmenter.apply(image, label, params), expected, strict=True):
        assert torch.equal(one, other)
