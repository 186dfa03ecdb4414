"""Image and label move together and the right way, nothing is invented, and what is switched off changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from torch import Tensor

from core import intensity as intensities
from core import warp as warping
from core.augment import Augmenter
from core.config import AugmentConfig
from core.intensity import Intensity, apply_intensity, change_tones, coarse, draw_intensity, gaussian, linear, smooth
from core.patches import DeviceSubjects, Place
from core.types import TrainingSubject, triple
from core.warp import Warp, apply_warp, draw_warp, flip, nearest, trilinear

Triple = tuple[int, int, int]

OFF: dict[str, Any] = dict(flip=0.0, affine=0.0, elastic=0.0, intensity=0.0, noise=0.0)
SPATIAL: dict[str, dict[str, Any]] = {
    "rotation": dict(affine=1.0, rotation_deg=180.0, scaling=0.0),
    "scaling": dict(affine=1.0, rotation_deg=0.0, scaling=0.25),
    "elastic": dict(elastic=1.0, elastic_voxels=3.0),
    "everything": dict(flip=0.5, affine=0.7, rotation_deg=40.0, scaling=0.2, elastic=0.6, elastic_voxels=2.0),
}
spatial_kinds = pytest.mark.parametrize("kind", SPATIAL)


def config(**values: Any) -> AugmentConfig:
    return AugmentConfig(**{**OFF, **values})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_cpu(image: np.ndarray, label: np.ndarray) -> DeviceSubjects:
    subject = TrainingSubject("s", image.astype(np.float32), label.astype(np.uint8), (1.0, 1.0, 1.0))
    return DeviceSubjects([subject], torch.device("cpu"))


def blob(shape: Triple) -> DeviceSubjects:
    """A smooth bright ellipsoid off the middle; it is of class 1 where it exceeds 0.5."""
    image = np.ones(shape)
    for axis, (n, at, width) in enumerate(zip(shape, (0.45, 0.55, 0.47), (10, 8, 9), strict=True)):
        profile = np.exp(-0.5 * ((np.arange(n) - at * n) / width) ** 2)
        image *= np.expand_dims(profile, [a for a in range(3) if a != axis])
    return on_cpu(image[None], image > 0.5)


def textured(shape: Triple, channels: int = 2) -> DeviceSubjects:
    rng = np.random.default_rng(0)
    return on_cpu(rng.normal(size=(channels, *shape)), rng.choice([0, 3, 200], shape))


def dice(one: Tensor, other: Tensor) -> float:
    return (2 * (one & other).sum() / (one.sum() + other.sum())).item()


def gaussian_at(centre: tuple[float, float, float], region: Triple) -> Tensor:
    """A bright blob (1, 1, i, j, k) at a distance in voxels from the middle of a region."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 - c for n, c in zip(region, centre, strict=True)]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    return torch.exp(-0.5 * (i**2 + j**2 + k**2) / 1.5**2)[None, None]


def centre_of(image: Tensor) -> list[float]:
    """Centre of mass in voxels from the middle."""
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


# --- nothing to do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(3, 2, 1), (-4, 9, 0)])
def test_everything_off_is_exactly_the_crop(start: Triple) -> None:
    subjects, size = textured((20, 18, 16)), (8, 10, 12)
    places = [Place(0, start), Place(0, (0, 0, 0))]
    image, label = Augmenter(config(), size)(subjects, places, generator())
    plain_image, plain_label = subjects.crop(places, size)
    assert torch.equal(image, plain_image)
    assert torch.equal(label, plain_label)


def test_a_move_by_nothing_is_the_crop() -> None:
    subjects, size = textured((20, 18, 16)), (8, 11, 12)
    places = [Place(0, (3, 2, 1)), Place(0, (-4, 9, 0))]
    still = config(affine=1.0, rotation_deg=0.0, scaling=0.0, elastic=1.0, elastic_voxels=0.0)
    hardly = config(affine=1.0, rotation_deg=1e-5, scaling=1e-7, elastic=1.0, elastic_voxels=1e-6)
    plain_image, plain_label = subjects.crop(places, size)
    for nothing in (still, hardly):
        image, label = Augmenter(nothing, size)(subjects, places, generator())
        torch.testing.assert_close(image, plain_image, rtol=1e-4, atol=1e-4)
        assert torch.equal(label, plain_label)


def test_who_is_not_moved_stays_when_others_are() -> None:
    subjects, size = textured((30, 30, 30)), (8, 8, 8)
    places = [Place(0, (11, 11, 11))] * 12
    image, label = Augmenter(config(affine=0.5, rotation_deg=90.0), size)(subjects, places, generator())
    plain_image, plain_label = subjects.crop(places, size)
    stayed = [n for n in range(12) if torch.equal(label[n], plain_label[n])]
    assert 2 < len(stayed) < 10
    assert torch.equal(image[stayed], plain_image[stayed])


# --- image and label together -----------------------------------------------------------------------------------------


@spatial_kinds
def test_image_and_label_move_together(kind: str) -> None:
    subjects, size = blob((40, 38, 36)), (36, 34, 32)
    places = [Place(0, (2, 2, 2))] * 4
    image, label = Augmenter(config(**SPATIAL[kind]), size)(subjects, places, generator())
    plain_image, _ = subjects.crop(places, size)
    assert (image - plain_image).abs().amax(dim=(1, 2, 3, 4)).median() > 0.1
    for n in range(len(places)):
        assert dice(image[n, 0] > 0.5, label[n] == 1) > 0.95


def test_flips_mirror_left_and_right_exactly() -> None:
    subjects, size = textured((12, 11, 10)), (8, 6, 7)
    places = [Place(0, (n, 1, 2)) for n in range(4)]
    image, label = Augmenter(config(flip=1.0), size)(subjects, places, generator())
    plain_image, plain_label = subjects.crop(places, size)
    np.testing.assert_array_equal(image.numpy(), plain_image.numpy()[:, :, ::-1])
    np.testing.assert_array_equal(label.numpy(), plain_label.numpy()[:, ::-1])


def test_half_of_the_sub_volumes_are_flipped_label_and_image_alike() -> None:
    image = torch.arange(4.0).reshape(1, 1, 4, 1, 1).repeat(200, 1, 1, 1, 1)
    chosen = (torch.rand(200, generator=generator()) < 0.5).tolist()
    moved, label = flip(image, image[:, 0].to(torch.uint8), chosen)
    assert torch.equal(moved[:, 0].to(torch.uint8), label)
    assert 70 < (label[:, 0, 0, 0] == 3).sum() < 130
    assert torch.equal(image[0].flatten(), torch.arange(4.0))


@spatial_kinds
def test_labels_get_no_new_values(kind: str) -> None:
    subjects, size = textured((16, 16, 16)), (16, 12, 8)
    places = [Place(0, (0, 2, 4)), Place(0, (-5, 9, 3)), Place(0, (1, 1, 1))]
    _, label = Augmenter(config(**SPATIAL[kind], intensity=1.0, noise=1.0), size)(subjects, places, generator())
    assert label.dtype == torch.uint8
    assert set(label.unique().tolist()) == {0, 3, 200}


# --- where things go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [90.0, -90.0, 30.0, -75.0])
def test_a_rotation_brings_a_marker_to_the_right_place(axis: int, degrees: float) -> None:
    region, size, marker = (27, 23, 25), (21, 19, 17), (3.0, -2.0, 4.0)
    image = gaussian_at(marker, region)
    matrix = about(axis, degrees)
    moved, label = apply_warp(image, (image[:, 0] > 0.5).to(torch.uint8), Warp(matrix, None), size)
    # The warped sub-volume shows at x what lies at M x, so what lies at y is shown at the inverse rotation of y.
    expected = (about(axis, -degrees)[0] @ torch.tensor(marker)).tolist()
    assert moved.shape == (1, 1, *size) and label.shape == (1, *size)
    assert centre_of(moved[0, 0]) == pytest.approx(expected, abs=0.05)
    assert centre_of(label[0].float()) == pytest.approx(expected, abs=0.35)


def test_a_quarter_turn_by_hand() -> None:
    image = torch.zeros(1, 1, 9, 11, 13)
    image[0, 0, 4 + 1, 5 + 2, 6 + 3] = 1  # at (1, 2, 3) from the middle
    moved, label = apply_warp(image, image[:, 0].to(torch.uint8), Warp(about(2, 90.0), None), (7, 7, 7))
    # About k: j turns to i and i to -j.
    assert torch.equal(label.nonzero(), torch.tensor([[0, 3 + 2, 3 - 1, 3 + 3]]))
    assert moved[0, 0, 5, 2, 6].item() == pytest.approx(1, abs=1e-4)
    assert moved.sum().item() == pytest.approx(1, abs=1e-4)


def test_scaling_is_about_the_middle_axis_by_axis() -> None:
    image = gaussian_at((4.0, -3.0, 2.0), (31, 31, 31))
    warp = Warp(torch.diag(torch.tensor([2.0, 1.0, 0.5]))[None], None)
    moved, _ = apply_warp(image, (image[:, 0] > 0.5).to(torch.uint8), warp, (21, 21, 25))
    assert centre_of(moved[0, 0]) == pytest.approx([2.0, -3.0, 4.0], abs=0.05)


def test_a_constant_displacement_shifts() -> None:
    image = torch.randn(1, 2, 14, 13, 12, generator=generator())
    label = torch.randint(0, 5, (1, 14, 13, 12), generator=generator(), dtype=torch.uint8)
    control = torch.tensor([1.0, -2.0, 0.0])[None, :, None, None, None].expand(1, 3, 4, 4, 4)
    moved, chosen = apply_warp(image, label, Warp(torch.eye(3)[None], control), (8, 7, 6))
    torch.testing.assert_close(moved, image[:, :, 4:12, 1:8, 3:9], rtol=1e-4, atol=1e-4)
    assert torch.equal(chosen, label[:, 4:12, 1:8, 3:9])


def test_drawn_rotations_are_rotations_within_the_limit() -> None:
    warp = draw_warp(config(affine=1.0, rotation_deg=20.0, scaling=0.0), (8, 8, 8), 200, generator())
    assert warp is not None and warp.control is None
    torch.testing.assert_close(warp.matrix @ warp.matrix.mT, torch.eye(3).expand(200, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(warp.matrix) > 0).all()
    trace = warp.matrix.diagonal(dim1=1, dim2=2).sum(dim=1)
    degrees = torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).arccos())
    assert 20 < degrees.max() < 20 * math.sqrt(3) + 1
    assert degrees.min() < 10


def test_drawn_sizes_stay_within_the_limit() -> None:
    warp = draw_warp(config(affine=1.0, rotation_deg=0.0, scaling=0.3), (8, 8, 8), 200, generator())
    assert warp is not None
    scales = warp.matrix.diagonal(dim1=1, dim2=2)
    assert torch.equal(warp.matrix, torch.diag_embed(scales))
    assert 0.7 <= scales.min() < 0.72
    assert 1.28 < scales.max() <= 1.3


# --- what is read -----------------------------------------------------------------------------------------------------


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
def test_no_zeros_are_read_where_the_subject_goes_on(size: Triple, options: dict[str, Any]) -> None:
    subjects = on_cpu(np.ones((1, 64, 64, 64)), np.ones((64, 64, 64)))
    augment = Augmenter(config(**options), size)
    for seed in range(4):
        image, label = augment(subjects, [Place(0, (24, 24, 24))] * 4, generator(seed))
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


# --- chance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [*SPATIAL.values(), dict(flip=0.5), dict(intensity=0.5), dict(noise=0.5)], ids=str)
def test_the_generator_decides(options: dict[str, Any]) -> None:
    subjects, size = textured((20, 20, 20)), (10, 9, 8)
    places = [Place(0, (n, 2, 3)) for n in range(6)]
    augment = Augmenter(config(**options), size)
    image, label = augment(subjects, places, generator(1))
    torch.manual_seed(5)  # the global generator has no say
    again, same_label = augment(subjects, places, generator(1))
    other, _ = augment(subjects, places, generator(2))
    assert torch.equal(image, again) and torch.equal(label, same_label)
    assert not torch.equal(image, other)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("options", [{}, *SPATIAL.values(), dict(flip=1.0), dict(intensity=1.0, noise=0.2)], ids=str)
def test_a_draw_that_is_applied_later_is_the_call(options: dict[str, Any], count: int) -> None:
    subjects, size = textured((20, 20, 20)), (10, 9, 8)
    places = [Place(0, (n, 2, 3)) for n in range(count)]
    augment = Augmenter(config(**options), size)
    image, label = augment(subjects, places, generator(1))
    draw = augment.draw(places, 2, generator(1))
    region = subjects.crop(draw.places, draw.region)
    before = [tensor.clone() for tensor in region]
    for _ in range(2):
        later = augment.apply(*region, draw)
        assert torch.equal(later[0], image) and torch.equal(later[1], label)
    assert all(torch.equal(tensor, was) for tensor, was in zip(region, before, strict=True)), "not written to"


# --- reading between voxels -------------------------------------------------------------------------------------------


def anywhere(shape: Triple, count: int) -> Tensor:
    """Random voxels (3, count), some of them outermost ones."""
    last = torch.tensor(shape)[:, None] - 1.0
    inside = torch.rand(3, count, generator=generator(4)) * last
    ends = torch.randint(0, 2, (3, count), generator=generator(5)) * last
    return torch.where(torch.rand(3, count, generator=generator(6)) < 0.2, ends, inside)


@pytest.mark.parametrize("exact", [0, 2**24])
@pytest.mark.parametrize("shape", [(9, 7, 8), (2, 3, 2), (1, 6, 5)])
def test_reading_equals_grid_sample(shape: Triple, exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warping, "EXACT_VOXELS", exact)
    image = torch.randn(3, *shape, generator=generator())
    label = torch.randint(0, 255, shape, generator=generator(), dtype=torch.uint8)
    where = anywhere(shape, 500)
    grid = (where / (torch.tensor(shape)[:, None] - 1).clamp_min(1) * 2 - 1).flip(0).T[None, None, None]
    how = dict(padding_mode="border", align_corners=True)
    expected = torch.nn.functional.grid_sample(image[None], grid, **how).view(3, -1)  # type: ignore[arg-type]
    torch.testing.assert_close(trilinear(image, where), expected, rtol=1e-5, atol=1e-5)
    chosen = torch.nn.functional.grid_sample(label[None, None].float(), grid, mode="nearest", **how)  # type: ignore[arg-type]
    assert torch.equal(nearest(label, where), chosen.flatten().to(torch.uint8))
    assert not trilinear(image, where[:, :0]).numel()


def test_a_warp_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_mirrored_warp_is_the_mirror_image_of_the_warp(kind: str) -> None:
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


# --- intensity --------------------------------------------------------------------------------------------------------


def brain(batch: int = 8, channels: int = 2) -> Tensor:
    """Random intensities in the middle, exact zeros around."""
    image = torch.zeros(batch, channels, 12, 12, 12)
    image[:, :, 3:9, 3:9, 3:9] = torch.randn(batch, channels, 6, 6, 6, generator=generator(1))
    return image


def change_intensity(image: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw a change of an image (batch, channel, i, j, k) and apply it to a copy."""
    changes = draw_intensity(config, image.shape[0], image.shape[1], triple(image.shape[2:]), generator)
    return apply_intensity(image.clone(), changes)


def test_intensity_leaves_label_and_place_alone() -> None:
    subjects, size = textured((20, 20, 20)), (10, 9, 8)
    places = [Place(0, (n, 2, 3)) for n in range(4)]
    image, label = Augmenter(config(intensity=1.0, noise=0.1), size)(subjects, places, generator())
    plain_image, plain_label = subjects.crop(places, size)
    assert torch.equal(label, plain_label)
    assert not torch.equal(image, plain_image)
    for n in range(4):
        for channel in range(2):
            pair = torch.stack((image[n, channel].flatten(), plain_image[n, channel].flatten()))
            assert torch.corrcoef(pair)[0, 1] > 0.3


def test_zeros_stay_zero_but_for_blur_and_low_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensities, "smooth", lambda channel, matrices: None)
    image = brain()
    changed = change_intensity(image, config(intensity=1.0, noise=1.0), generator())
    assert torch.equal(changed == 0, image == 0)
    assert (changed != image)[image != 0].all()


def test_the_subject_is_not_written_to() -> None:
    subjects = textured((10, 10, 10))
    before = subjects.image(0), subjects.label(0).clone()
    Augmenter(config(intensity=1.0, noise=1.0), (10, 10, 10))(subjects, [Place(0, (0, 0, 0))], generator())
    assert torch.equal(subjects.image(0), before[0]) and torch.equal(subjects.label(0), before[1])


@pytest.mark.parametrize("count", [1, 2**18 + 3])
def test_noise_is_gaussian(count: int) -> None:
    """Every voxel its own number, whatever the piece of the volume that it was made in."""
    channel = torch.ones(count, 1, 1)
    intensities.add_noise(channel, 2.0, seed=5)
    noise = (channel.flatten() - 1).numpy() / 2
    if count > 1:
        assert kstest(noise, "norm").pvalue > 0.01
        assert noise.std() == pytest.approx(1, abs=0.01)
        assert 3.9 < np.abs(noise).max() < 4.5
        for lag in (1, 2, 3, 4, 8, 2**16, 2**17):
            assert abs(np.corrcoef(noise[:-lag], noise[lag:])[0, 1]) < 0.01
    again, other = torch.ones(count, 1, 1), torch.ones(count, 1, 1)
    intensities.add_noise(again, 2.0, seed=5)
    intensities.add_noise(other, 2.0, seed=6)
    assert torch.equal(again, channel) and not torch.equal(other, channel)


def test_noise_is_bounded_and_differs_from_channel_to_channel() -> None:
    image = torch.ones(16, 2, 12, 12, 12)
    noise = change_intensity(image, config(noise=0.3), generator()) - 1
    strengths = noise.std(dim=(2, 3, 4)).flatten()
    assert strengths.max() < 0.3 * 1.1
    assert strengths.max() > 0.25
    assert strengths.min() < 0.05
    assert len(strengths.unique()) == 32
    assert (noise.mean(dim=(2, 3, 4)).abs() < 0.05).all()
    later = change_intensity(image, config(noise=0.3), generator(1)) - 1
    patterns = torch.corrcoef(torch.cat((noise, later)).flatten(0, 1).flatten(1))
    assert (patterns - torch.eye(64)).abs().max() < 0.15


def test_channels_and_sub_volumes_change_independently() -> None:
    one = torch.randn(1, 1, 8, 8, 8, generator=generator(3)).repeat(10, 2, 1, 1, 1)
    changed = change_intensity(one, config(intensity=0.5), generator()).flatten(0, 1)
    assert len({tuple(c.flatten().tolist()) for c in changed}) >= 18


def test_an_intensity_probability_is_one() -> None:
    image = brain(batch=200, channels=1)[:, :, 3:9, 3:9, 3:9].contiguous()
    changed = change_intensity(image, config(intensity=0.05), generator())
    untouched = ((changed - image).abs() < 1e-4).all(dim=(1, 2, 3, 4)).float().mean()
    assert untouched.item() == pytest.approx(0.95**6, abs=0.1)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e4])
def test_everything_stays_finite(value: float) -> None:
    shape = (20, 20, 20)
    everything = config(**SPATIAL["everything"], intensity=1.0, noise=1.0)
    constant, rough = np.full((2, *shape), value), np.random.default_rng(0).normal(value, abs(value) + 1, (2, *shape))
    for image in (constant, rough):
        for seed in range(3):
            subjects = on_cpu(image, np.ones(shape))
            changed, _ = Augmenter(everything, (16, 12, 8))(
                subjects, [Place(0, (n, 2, 14)) for n in range(4)], generator(seed)
            )
            assert changed.dtype == torch.float32
            assert changed.isfinite().all()


def toned(values: list[float], **change: Any) -> list[float]:
    channel = torch.tensor(values).reshape(-1, 1, 1)
    change_tones(channel, Intensity(**change))
    return channel.flatten().tolist()


def test_gamma_by_hand() -> None:
    assert toned([1.0, 2.0, 3.0, 5.0], exponent=2.0) == pytest.approx([1, 1.25, 2, 5], abs=1e-5)
    assert toned([-2.0, -1.0, 0.0, 2.0], exponent=0.5) == pytest.approx([-2, 0, 0, 2], abs=1e-5)
    assert toned([3.0, 3.0], exponent=2.0) == pytest.approx([3, 3], abs=1e-5)


def test_contrast_and_brightness_by_hand_also_after_gamma() -> None:
    assert toned([1.0, -2.0, 0.0], contrast=2.0, brightness=0.5) == [2.5, -3.5, 0]
    both = toned([1.0, 2.0, 3.0, 5.0], exponent=2.0, contrast=2.0, brightness=0.5)
    assert both == pytest.approx([2.5, 3, 4.5, 10.5], abs=1e-5)


@pytest.mark.parametrize("size", [(9, 8, 7), (40, 64, 64)])
def test_the_bias_field_is_interpolated_between_its_control_points(size: Triple) -> None:
    control = torch.randn(4, 4, 4, generator=generator()).exp()
    channel = torch.ones(size)
    change_tones(channel, Intensity(bias=control))
    field = torch.nn.functional.interpolate(control[None, None], size=size, mode="trilinear", align_corners=True)
    torch.testing.assert_close(channel, field[0, 0])


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large volume is changed a few rows at a time."""
    image, options = torch.randn(1, 2, 40, 20, 24, generator=generator()), config(intensity=1.0, noise=0.1)
    whole = change_intensity(image, options, generator())
    monkeypatch.setattr(intensities, "CHUNK_VOXELS", 1200)
    torch.testing.assert_close(change_intensity(image, options, generator()), whole, rtol=1e-5, atol=1e-5)


def blur(image: Tensor, sigmas: list[float]) -> Tensor:
    image = image.clone()
    for channel, sigma in zip(image.flatten(0, 1), sigmas, strict=True):
        i, j, k = (gaussian(n, sigma) for n in channel.shape)
        smooth(channel, (i, j, k))
    return image


def test_blur_equals_scipys_each_channel_its_own() -> None:
    image = torch.randn(2, 2, 9, 10, 11, generator=generator())
    sigmas = [0.5, 0.0, 1.0, 0.8]
    for found, plain, sigma in zip(blur(image, sigmas).flatten(0, 1).numpy(), image.flatten(0, 1), sigmas, strict=True):
        expected = gaussian_filter(plain.numpy(), sigma, mode="nearest", radius=3) if sigma else plain.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blur_does_not_darken_the_border() -> None:
    image = torch.full((1, 1, 8, 8, 8), 5.0)
    torch.testing.assert_close(blur(image, [1.0]), image)


@pytest.mark.parametrize(("new", "old"), [(7, 4), (4, 7), (5, 5), (9, 2)])
def test_interpolation_along_an_axis_is_torchs(new: int, old: int) -> None:
    values = torch.randn(1, 1, old, generator=generator())
    expected = torch.nn.functional.interpolate(values, size=new, mode="linear", align_corners=True)
    torch.testing.assert_close(linear(new, old) @ values[0, 0], expected[0, 0])


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_low_resolution_equals_torchs_interpolation_down_and_up(share: float) -> None:
    channel = torch.randn(16, 10, 12, generator=generator())
    down = [math.ceil(n * share) for n in channel.shape]
    small = torch.nn.functional.interpolate(channel[None, None], size=down, mode="trilinear", align_corners=True)
    expected = torch.nn.functional.interpolate(small, size=channel.shape, mode="trilinear", align_corners=True)[0, 0]
    i, j, k = (coarse(n, share) for n in channel.shape)
    smooth(channel, (i, j, k))
    torch.testing.assert_close(channel, expected, rtol=1e-5, atol=1e-5)


def test_low_resolution_keeps_what_is_linear_and_loses_detail() -> None:
    n = 16
    matrix = coarse(n, 0.5)
    ramp = torch.arange(float(n))
    torch.testing.assert_close(matrix @ ramp, ramp)
    assert torch.linalg.matrix_rank(matrix) == n // 2
    assert torch.equal(coarse(n, 1.0), torch.eye(n))


def test_low_resolution_is_drawn() -> None:
    """With the blur: smoothing matrices of a lower rank, down to half of the size, for the share that was asked for."""
    changes = draw_intensity(config(intensity=0.3), 100, 2, (32, 4, 4), generator())
    assert len(changes) == 200
    smoothed = torch.stack([c.smoothing[0] for c in changes if c.smoothing is not None])
    assert len(smoothed) == pytest.approx(200 * (1 - 0.7**2), abs=25)
    ranks = torch.linalg.matrix_rank(smoothed, rtol=1e-4)
    fewer = ranks[ranks < 32]
    assert len(fewer) == pytest.approx(200 * 0.3, abs=20)
    assert 16 <= fewer.min() <= 17 and fewer.max() >= 29
