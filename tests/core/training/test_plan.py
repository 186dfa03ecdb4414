"""Resolved configurations against hand-computed values, and estimates against the built network."""

from __future__ import annotations

import math
from typing import Any

import pytest

from core.config import TrainConfig
from core.formatting import format_bytes
from core.models import MODELS
from core.training.plan import (
    DEVICE_KINDS,
    StepCost,
    TrainingPlan,
    fit_sub_volume,
    kept_epochs_in_words,
    make_plan,
    suggest_smaller,
    target_spacing,
)
from core.types import Size3

SHAPES = [(60, 70, 50), (64, 64, 64), (58, 80, 44)]
SPACINGS_MM = [(1.0, 1.0, 2.0), (0.5, 1.0, 1.0), (2.0, 1.5, 3.0)]


def planned(modalities: int = 2, classes: int = 4, device: str = "cpu", **values: Any) -> TrainingPlan:
    config = TrainConfig().with_values(values)
    return make_plan(
        config, shapes=SHAPES, spacings_mm=SPACINGS_MM, modalities=modalities, classes=classes, device=device
    )


# --- sub-volume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "divisor", "max_voxels", "expected"),
    [
        ((48, 32, 16), 8, 64**3, (48, 32, 16)),  # fits unchanged
        ((35, 51, 36), 8, 64**3, (32, 48, 32)),  # to the nearest, the lower of two
        ((37, 53, 63), 8, 64**3, (40, 56, 64)),
        ((256, 256, 256), 8, 64**3, (64, 64, 64)),  # a cube
        ((256, 256, 32), 16, 64**3, (80, 96, 32)),  # the short side stays, the others come close
        ((500, 40, 40), 8, 64**3, (160, 40, 40)),
        ((1, 1, 1), 8, 64**3, (8, 8, 8)),
        ((20, 5, 3), 2, 64**3, (20, 8, 8)),  # the configuration allows no side below 8
        ((20, 3, 9), 3, 64**3, (21, 9, 9)),
        ((300, 300, 300), 128, 64**3, (128, 128, 128)),  # at least one multiple, even above the limit
        ((100, 100, 100), 2, 100, (8, 8, 8)),
    ],
)
def test_fitted_sub_volume_by_hand(shape: Size3, divisor: int, max_voxels: int, expected: Size3) -> None:
    assert fit_sub_volume(shape, divisor, max_voxels) == expected


@pytest.mark.parametrize("divisor", [2, 4, 8, 16])
@pytest.mark.parametrize("max_voxels", [32**3, 64**3, 128**3])
@pytest.mark.parametrize("shape", [(240, 240, 155), (35, 51, 35), (512, 512, 90), (9, 100, 300), (64, 65, 63)])
def test_fitted_sub_volume_has_the_documented_properties(shape: Size3, divisor: int, max_voxels: int) -> None:
    size = fit_sub_volume(shape, divisor, max_voxels)
    assert all(n % divisor == 0 and n >= 8 for n in size)
    assert all(n <= max(full + divisor / 2, 8 + divisor) for n, full in zip(size, shape, strict=True))
    assert math.prod(size) <= max_voxels
    shortened = [n for n, full in zip(size, shape, strict=True) if n < full - divisor / 2]
    if shortened:  # the longest come together, and one step back would be too many voxels
        assert max(size) - min(shortened) <= divisor
        assert math.prod(size) * (1 + divisor / min(shortened)) > max_voxels


def test_fitted_sub_volume_is_a_valid_configuration() -> None:
    """At least 8 voxels, and no more than a field takes, a multiple of 24 here."""
    assert fit_sub_volume((16, 16, 4000), 24, 128**3) == (24, 24, 1008)
    long: dict[str, Any] = dict(shapes=[(16, 16, 4000)], spacings_mm=[(1.0, 1.0, 1.0)], modalities=1, classes=2)
    assert make_plan(TrainConfig(), device="cuda", **long).config.sampling.sub_volume == (16, 16, 1024)
    config = TrainConfig().with_values({"channels": (8, 16)})
    shallow = make_plan(config, shapes=[(100, 90, 3)], spacings_mm=[(1.0, 1.0, 5.0)], modalities=1, classes=2)
    assert shallow.config.sampling.sub_volume == (100, 90, 8)


# --- spacing ----------------------------------------------------------------------------------------------------------


def test_target_spacing_is_given_median_or_none() -> None:
    def target(spacings: Any = SPACINGS_MM, **values: Any) -> Any:
        return target_spacing(TrainConfig().with_values(values), spacings)

    assert target() is None
    assert target(resample="median") == (1.0, 1.0, 2.0)
    assert target(spacing_mm=(3, 2, 1)) == (3.0, 2.0, 1.0)
    assert target(spacing_mm=(3, 2, 1), resample="median") == (3.0, 2.0, 1.0)
    assert target([], resample="median") is None
    # With an even number of subjects the lower one of the two in the middle: a voxel size that occurs.
    assert target([*SPACINGS_MM, (1.5, 1.2, 2.5)], resample="median") == (1.0, 1.0, 2.0)


def test_sizes_are_those_after_resampling() -> None:
    native, resampled = planned(), planned(spacing_mm=(2, 2, 2))
    assert (native.spacing_mm, resampled.spacing_mm) == (None, (2.0, 2.0, 2.0))
    # (60, 70, 50), (64, 64, 64), (58, 80, 44) at their spacings: median (60, 70, 50) and (30, 35, 50).
    assert native.config.sampling.sub_volume == (56, 72, 48)
    assert resampled.config.sampling.sub_volume == (32, 32, 48)
    shapes = [(30, 35, 50), (16, 32, 32), (58, 60, 66)]
    assert resampled.data_bytes == sum(math.prod(shape) for shape in shapes) * (2 * 2 + 1)
    assert native.data_bytes == sum(math.prod(shape) for shape in SHAPES) * (2 * 2 + 1)
    assert planned(modalities=1, device="cuda").data_bytes == sum(math.prod(shape) for shape in SHAPES) * (2 + 1)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_only_open_fields_are_resolved() -> None:
    resolved = planned(learning_rate=0.5, classes=3).config
    open_fields = {"channels": (64, 128, 256, 512), "sub_volume": resolved.sampling.sub_volume}
    assert resolved == TrainConfig().with_values({"learning_rate": 0.5, **open_fields})
    assert planned(model="vnet").config.model.channels == MODELS["vnet"].channels


def test_configured_fields_are_kept() -> None:
    resolved = planned(sub_volume=(33, 24, 17), channels=(8, 16, 24)).config
    assert resolved.sampling.sub_volume == (33, 24, 17)
    assert resolved.model.channels == (8, 16, 24)


@pytest.mark.parametrize(("channels", "expected"), [((4, 8), (60, 70, 50)), ((4,) * 6, (64, 64, 64))])
def test_sub_volume_fits_the_depth_of_the_network(channels: tuple[int, ...], expected: Size3) -> None:
    size = planned(channels=channels).config.sampling.sub_volume
    assert size == expected


def test_sub_volume_is_larger_on_a_gpu() -> None:
    config = TrainConfig()
    options: dict[str, Any] = dict(shapes=[(240, 240, 155)], spacings_mm=[(1.0,) * 3], modalities=4, classes=4)
    sizes = {device: make_plan(config, device=device, **options).config.sampling.sub_volume for device in DEVICE_KINDS}
    large = (128, 128, 128)
    assert sizes == {"cpu": (64, 64, 64), "cuda": large, "mps": (96, 96, 96), "xpu": large}


# --- cost -------------------------------------------------------------------------------------------------------------


COST = StepCost(parameters=1000, forward_gflop=12.0, training_gflop=36.0, step_bytes=10**9)


@pytest.mark.parametrize(("samples", "batch", "steps"), [(250, 2, 125), (7, 2, 4), (1, 8, 1), (16, 16, 1)])
def test_steps_of_an_epoch(samples: int, batch: int, steps: int) -> None:
    assert planned(samples_train=samples, batch_size=batch).steps_per_epoch == steps


def test_steps_of_an_epoch_on_several_devices() -> None:
    both = planned(samples_train=250, batch_size=2, devices=2)
    assert both.steps_per_epoch == planned(samples_train=250, batch_size=2, accumulate=2).steps_per_epoch == 63
    assert both.epoch_s(COST) == pytest.approx(planned(samples_train=250, batch_size=2).epoch_s(COST) / 2, rel=0.02)
    assert both.sub_volumes_per_s(COST) == pytest.approx(2 / (36 / 120 + 0.03))


def test_duration_of_an_epoch_is_that_of_its_sub_volumes() -> None:
    one = planned(samples_train=10, batch_size=1)
    assert one.epoch_s(COST) == pytest.approx(10 * (36 / 120 + 0.03))
    assert planned(samples_train=10, batch_size=5).epoch_s(COST) == pytest.approx(one.epoch_s(COST))
    assert planned(samples_train=9, batch_size=2).epoch_s(COST) == pytest.approx(one.epoch_s(COST))
    assert planned(samples_train=30, batch_size=1).epoch_s(COST) == pytest.approx(3 * one.epoch_s(COST))
    assert planned(device="cuda", samples_train=10).epoch_s(COST) < one.epoch_s(COST) / 50


def test_validations_of_epochs_by_hand() -> None:
    """A volume of two tiles, one of a single one; 12 GFLOP for each. Whole volumes after epochs 4 and 8, and at the end
    in tiles and in one pass, which are 2.5 times tiles."""
    plan = planned(epochs=10, samples_val=6, whole_every=4, inference_mode="auto", sub_volume=(32, 32, 32), overlap=0.5)
    shapes = [(48, 32, 32), (20, 32, 32)]
    assert plan.validations_s(COST, shapes) == pytest.approx(((2 + 2.5) * 3 + 10 * 6) * 12 / 120)
    tiles = planned(epochs=9, samples_val=0, whole_every=4, inference_mode="tiles", mirror=True, sub_volume=(32,) * 3)
    assert tiles.validations_s(COST, shapes) == pytest.approx((2 + 1) * 3 * 2 * 12 / 120)
    assert planned(whole_every=0, samples_val=0).validations_s(COST, shapes) == 0 == plan.validations_s(COST, [])


def test_accumulated_batches_are_one_step() -> None:
    plan = planned(samples_train=10, batch_size=2, accumulate=2)
    assert plan.steps_per_epoch == 3
    assert plan.epoch_s(COST) == pytest.approx(planned(samples_train=12, batch_size=1).epoch_s(COST))


# --- what would fit ---------------------------------------------------------------------------------------------------

LARGE: dict[str, Any] = dict(sub_volume=(64, 72, 48), channels=(8, 16, 32), batch_size=8)


def bytes_of(config: TrainConfig) -> int:
    """Weights, and an amount per voxel after padding to the divisor of four that bends a little."""
    voxels = config.sampling.batch_size * math.prod(math.ceil(n / 4) * 4 for n in config.sampling.sub_volume)
    return 10**6 + 300 * voxels + 10 * round(voxels**0.9)


def suggested(memory_bytes: float, **values: Any) -> str:
    return suggest_smaller(TrainConfig().with_values({**LARGE, **values}), int(memory_bytes), bytes_of)


def step_memory(**values: Any) -> int:
    return bytes_of(TrainConfig().with_values({**LARGE, **values}))


def test_largest_batch_and_sub_volume_that_fit_are_suggested() -> None:
    text = suggested(step_memory(batch_size=5) + 1)
    assert text.startswith(f"batch_size 5 would take about {format_bytes(step_memory(batch_size=5))}; sub_volume ")
    i, j, k = map(int, text.split("sub_volume ")[1].split(" about ")[0].split("x"))
    assert step_memory(sub_volume=(i, j, k)) <= step_memory(batch_size=5)
    longest = max(range(3), key=lambda axis: (i, j, k)[axis])
    one_more = [n + 4 * (axis == longest) for axis, n in enumerate((i, j, k))]
    assert step_memory(sub_volume=tuple(one_more)) > step_memory(batch_size=5)
    assert all(n % 4 == 0 and 8 <= n <= most for n, most in zip((i, j, k), (64, 72, 48), strict=True))


def test_smaller_sub_volume_is_suggested_if_no_batch_fits() -> None:
    memory_bytes = step_memory(batch_size=1) * 0.6
    text = suggested(memory_bytes)
    assert text.startswith("sub_volume ") and " and batch_size 1 would take about " in text
    for_batch_1 = suggested(memory_bytes, batch_size=1)
    assert for_batch_1.startswith("sub_volume ") and "batch_size" not in for_batch_1
    assert text.split()[1] == for_batch_1.split()[1]


def test_fewer_channels_are_suggested_if_nothing_fits() -> None:
    assert suggested(1000) == "no smaller sub_volume or batch_size would fit either: choose fewer channels"
    assert "fewer channels" in suggested(1000, sub_volume=(8, 8, 8), batch_size=1)


def test_suggested_sub_volume_is_a_multiple_of_the_divisor() -> None:
    text = suggested(step_memory(sub_volume=(33, 30, 30), batch_size=1) * 0.999, sub_volume=(33, 30, 30), batch_size=1)
    assert text.startswith("sub_volume 32x30x30 ")


def test_few_steps_are_asked_for() -> None:
    asked: list[TrainConfig] = []

    def counted(config: TrainConfig) -> int:
        asked.append(config)
        return bytes_of(config)

    config = TrainConfig().with_values({**LARGE, "sub_volume": (512, 512, 512), "batch_size": 64})
    text = suggest_smaller(config, step_memory(sub_volume=(96, 96, 96), batch_size=1), counted)
    assert "sub_volume 96x96x96" in text and len(asked) < 20


def test_number_and_size_of_kept_epochs() -> None:
    """250,000 parameters of four bytes; 23 epochs have four whole fifths."""
    epochs = TrainConfig().with_values({"epochs": 23, "minutes": 0.0})
    assert kept_epochs_in_words(epochs, 250_000) == ""
    every = epochs.with_values({"keep_every": 5})
    assert kept_epochs_in_words(every, 250_000) == "4 checkpoints of 1.0 MB, 4.0 MB in all"
    budget = every.with_values({"minutes": 3.0})
    assert kept_epochs_in_words(budget, 250_000) == "1.0 MB every 5 epochs", "the number of epochs is not known"


def test_channels_of_an_indicator_are_inputs_and_no_data() -> None:
    plain, stating = planned(), planned(modality_indicator=True)
    assert (plain.in_channels, stating.in_channels) == (2, 4)
    assert plain.data_bytes == stating.data_bytes, "they are made for each sub-volume"
