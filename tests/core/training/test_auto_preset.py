"""The preset auto: choices by hand-computed steps and passes, reasons, and the traced constants behind them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from core.config import ModelConfig, TrainConfig, field_specs
from core.formatting import format_duration
from core.models import resolve
from core.presets import PRESETS, preset
from core.training.auto_network import LEAST_STEPS, MAX_VALIDATION_SHARE, WIDTHS, Choice, Work, fit_network
from core.training.auto_preset import AUGMENTATION, Recipe, choose
from core.training.plan import DEVICE_KINDS, make_plan
from core.training.step_cost import trace_training_step
from core.training_place import DurationFactors, TrainingPlace

HIPPOCAMPI = Work(((36, 50, 35),) * 80, ((1.0,) * 3,) * 80, train=64, held_out=16)  # type: ignore[arg-type]
HEADS = Work(((144, 192, 256),) * 10, ((1.0,) * 3,) * 10, train=8, held_out=2)  # type: ignore[arg-type]


def chosen(work: Work, **given: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values and reasons."""
    config = preset("auto").with_values(given)
    final = choose(config, work).apply(config)
    return final.values(), final.reasons


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS, ids=lambda width: "-".join(map(str, width.channels)))
def test_operations_of_each_width_are_those_of_a_trace(width: Any) -> None:
    values = {**width.values, "sub_volume": (64, 64, 64), "precision": "bf16"}
    cost = trace_training_step(preset(width.base).with_values(values), 2, 4, "cpu")
    assert width.kflop_per_voxel == pytest.approx(cost.training_gflop * 1e6 / 64**3, rel=0.02)


def test_choices_are_those_for_the_device_of_an_engine_and_name_what_was_assumed() -> None:
    here, _ = chosen(HEADS, minutes=10.0)
    place = TrainingPlace("cuda", engine="gpus", assumed="gpus requests a GPU for a run; which one is not known")
    there, reasons = chosen(replace(HEADS, place=place), minutes=10.0)
    assert sum(there["channels"]) > sum(here["channels"]), "a GPU takes far more steps"
    assert reasons[0].startswith("Time: 10 min (CUDA on gpus) are about")
    assert reasons[0].endswith("; a rough estimate: gpus requests a GPU for a run; which one is not known")
    measured = replace(place, measured=DurationFactors(1.0, 1.0, 2), assumed="")
    assert chosen(replace(HEADS, place=measured), minutes=10.0)[1][0].endswith("; as fast as the last 2 runs there")


@pytest.mark.parametrize("work", [HIPPOCAMPI, HEADS], ids=["hippocampi", "heads"])
@pytest.mark.parametrize("minutes", [0.1, 1.0, 3.0, 10.0, 30.0, 480.0, 0.0])
def test_choices_are_a_configuration_and_each_has_a_reason(work: Work, minutes: float) -> None:
    values, reasons = chosen(work, minutes=minutes)
    config = TrainConfig().with_values(values)
    make_plan(config, shapes=work.shapes, spacings_mm=work.spacings_mm, modalities=2, classes=4)
    topics = [reason.partition(":")[0] for reason in reasons]
    assert topics == [
        "Time", "Network", "Sub-volume", "Batch", "Augmentation", "Loss", "Schedule", "Averaged weights",
        "Mirrored prediction", "Validation",
    ]  # fmt: skip
    assert values["minutes"] == minutes, "the time is the user's"


def test_one_minute_of_small_volumes_is_the_recipe_that_was_measured_best() -> None:
    values, _ = chosen(HIPPOCAMPI, minutes=1.0)
    measured = PRESETS["fast"]
    # The decay of the average is measured between 0.97 and 0.99; validation takes no share of the time here.
    for name in measured.keys() - {"ema", "epochs", "whole_every"}:
        assert values[name] == measured[name], name
    assert values["mirror"], "0.002 more, and a volume takes less than a second"
    assert values["ema"] == pytest.approx(0.99, abs=0.003)


def test_a_wider_network_is_chosen_once_enough_of_its_steps_fit() -> None:
    channels = {m: chosen(HIPPOCAMPI, minutes=float(m))[0]["channels"] for m in (1, 3, 10, 30, 480)}
    narrow, middle, wide = (width.channels for width in WIDTHS)
    assert channels == {1: narrow, 3: narrow, 10: middle, 30: middle, 480: wide}
    slower = replace(HIPPOCAMPI, place=TrainingPlace("cpu", DurationFactors(4.0, 4.0, 2)))
    values, reasons = chosen(slower, minutes=10.0)
    assert values["channels"] == narrow, "a quarter of the steps fit on a machine that was measured to be slower"
    assert reasons[0].endswith("as fast as the last 2 runs here")
    epochs, _ = chosen(HIPPOCAMPI, minutes=0.0, epochs=10)
    assert epochs["channels"] == middle, "10 epochs of 250 steps"
    assert chosen(HIPPOCAMPI, minutes=0.0, epochs=9)[0]["channels"] == narrow


def test_augmentation_and_averaging_grow_with_the_passes_over_the_data() -> None:
    light, strong = preset("fast").values(), preset("thorough").values()
    before = dict.fromkeys((*AUGMENTATION, "ema"), 0.0)
    for minutes in (1.0, 3.0, 10.0, 30.0):
        values, _ = chosen(HIPPOCAMPI, minutes=minutes)
        assert all(values[name] >= before[name] for name in before), minutes
        before = {name: values[name] for name in before}
    assert {name: before[name] for name in AUGMENTATION} == {name: strong[name] for name in AUGMENTATION}
    # 250 x 2 steps of 32x48x32 voxels over one subject of 36x50x35 are 390 passes, over 64 of them 6.
    alone, _ = chosen(replace(HIPPOCAMPI, train=1), minutes=0.0, epochs=2)
    many, _ = chosen(HIPPOCAMPI, minutes=0.0, epochs=2)
    assert alone["affine"] == strong["affine"] and many["affine"] == light["affine"]
    few = preset("auto").with_values({"minutes": 0.0, "epochs": 1, "samples_train": 5})
    assert "Averaged weights: over all steps" in choose(few, HIPPOCAMPI).reasons(few)


def test_padding_around_thin_volumes_counts_for_no_pass() -> None:
    """500 sub-volumes of a slice of 48x48 voxels, of which each is the whole slice."""
    slices = Work(((48, 48, 1),) * 10, ((1.0,) * 3,) * 10, train=10, held_out=2)  # type: ignore[arg-type]
    config = preset("auto").with_values({"minutes": 0.0, "epochs": 2, "samples_train": 250, "sub_volume": (48, 48, 8)})
    (reason,) = (r for r in choose(config, slices).reasons(config) if r.startswith("Time"))
    assert "500 steps, 50 passes" in reason


def test_a_short_time_has_smaller_sub_volumes_and_no_validation_that_takes_much_of_it() -> None:
    values, reasons = chosen(HEADS, minutes=1.0)
    size = values["sub_volume"]
    assert math.prod(size) < 64**3 and all(n % 8 == 0 and n >= 32 for n in size)
    kind = DEVICE_KINDS["cpu"]
    steps = 0.95 * 60 / kind.sub_volume_s(WIDTHS[0].kflop_per_voxel * math.prod(size) / 1e6)
    assert LEAST_STEPS <= steps < 1.3 * LEAST_STEPS
    assert values["whole_every"] == 0 and "would take about" in reasons[-1]
    later, _ = chosen(HEADS, minutes=10.0)
    assert later["sub_volume"] == () and later["whole_every"] > 0 and later["inference_mode"] == "auto"
    assert chosen(replace(HEADS, held_out=0), minutes=1.0)[1][-1] == "Validation: none: no subject is held out"
    assert 0 < MAX_VALIDATION_SHARE < 0.5


def test_early_stopping_keeps_the_whole_volumes_that_it_needs() -> None:
    assert chosen(HEADS, minutes=1.0)[0]["whole_every"] == 0
    values, reasons = chosen(HEADS, minutes=1.0, patience=3)
    assert (values["whole_every"], values["inference_mode"], values["patience"]) == (5, "tiles", 3)
    assert reasons[-1].endswith("much of the time, but early stopping needs them")


def test_predictions_are_mirrored_where_that_takes_little_time_and_is_right() -> None:
    def mirror(work: Work, **given: Any) -> tuple[bool, str]:
        values, reasons = chosen(work, **given)
        return values["mirror"], next(r for r in reasons if r.startswith("Mirrored prediction: "))

    assert mirror(HIPPOCAMPI, minutes=3.0)[0]
    yes, reason = mirror(HIPPOCAMPI, minutes=0.2)
    assert not yes and reason.endswith("validation would take too much of the time")
    yes, reason = mirror(HEADS, minutes=600.0)
    assert not yes and "a whole volume would take about" in reason
    assert mirror(replace(HEADS, place=TrainingPlace("cuda")), minutes=60.0)[0]
    for given in ({"flip": 0.0}, {"lateral": "off"}, {"lateral": "ignore"}):
        assert not mirror(HIPPOCAMPI, minutes=3.0, **given)[0], given
    assert mirror(replace(HIPPOCAMPI, held_out=0), minutes=0.2)[0], "no validation takes time"


def test_a_given_mirrored_prediction_doubles_the_duration_of_validation() -> None:
    def validation(**given: bool) -> Choice:
        choices = choose(preset("auto").with_values({"minutes": 3.0}), HEADS, given).choices
        return next(choice for choice in choices if choice.topic == "Validation")

    assert validation() == validation(mirror=False) and validation().values["whole_every"] > 0
    assert "in about 17 s" in validation().text and "would take about 35 s" in validation(mirror=True).text
    assert validation(mirror=True).values["whole_every"] == 0


def test_given_values_stay_and_are_named_with_the_choice_that_they_replace() -> None:
    config = preset("auto").with_values({"batch_size": 4, "sub_volume": (48, 48, 48), "learning_rate": 0.02})
    final = choose(config, HEADS).apply(config, given=("batch_size", "sub_volume", "learning_rate"))
    assert final.sampling.batch_size == 4 and final.sampling.sub_volume == (48, 48, 48)
    by_topic = {reason.partition(": ")[0]: reason for reason in final.reasons}
    assert by_topic["Batch"].endswith("; given instead: --batch-size 4")
    assert "given instead" not in by_topic["Schedule"], "the value that is given is the one that was chosen"


def test_a_given_batch_makes_fewer_steps_fit() -> None:
    single, _ = chosen(HEADS, minutes=60.0)
    config = preset("auto").with_values({"minutes": 60.0, "batch_size": 4})
    batched = choose(config, HEADS).apply(config, given=("batch_size",))
    assert single["channels"] == (16, 32, 64, 128) and batched.model.channels == (8, 16, 32, 64)


def test_epochs_say_how_long_they_take() -> None:
    by_time, reasons = chosen(HIPPOCAMPI, minutes=0.0, epochs=100)
    assert by_time["channels"] == (32, 64, 128, 256, 320)
    assert "25,000 steps" in reasons[0] and " h " in reasons[0] and "(CPU)" in reasons[0]


def test_validation_of_a_run_by_epochs_takes_its_share_and_is_part_of_its_time() -> None:
    fitted = fit_network(preset("auto").with_values({"minutes": 0.0, "epochs": 30}), HEADS, list(HEADS.shapes))
    training_s, validation_s = fitted.training_s, fitted.validation_s
    assert 0.05 * training_s < 5 * validation_s, "one after every 5 epochs takes more than its share"
    values, reasons = chosen(HEADS, minutes=0.0, epochs=30)
    in_run = (30 - 1) // values["whole_every"]
    assert values["whole_every"] > 5 and in_run * validation_s <= 0.05 * training_s < (in_run + 1) * validation_s
    every = values["whole_every"]
    assert reasons[-1].startswith(f"Validation: whole volumes of 2 held-out subjects every {every} epochs, in about ")
    total_s = training_s * (1 + 8 / 250 / 3) + (in_run + 2.5) * validation_s
    assert f"in about {format_duration(total_s)} with validation (CPU); " in reasons[0]
    once, reasons = chosen(replace(HEADS, held_out=20), minutes=0.0, epochs=30)
    assert once["whole_every"] == 30 and "subjects at the end in tiles alone" in reasons[-1]
    assert chosen(replace(HEADS, held_out=20), minutes=0.0, epochs=5)[0]["whole_every"] == 0, "over 15 % at the end"
    assert chosen(replace(HEADS, held_out=20), minutes=0.0, epochs=5, patience=2)[0]["whole_every"] == 5
    assert chosen(replace(HIPPOCAMPI, held_out=4), minutes=0.0, epochs=100)[0]["whole_every"] == 5
    assert "with validation" not in chosen(replace(HEADS, held_out=0), minutes=0.0, epochs=5)[1][0]


def test_a_given_network_keeps_its_own_widths() -> None:
    values, reasons = chosen(HEADS, model="segresnet")
    assert values["model"] == "segresnet" and values["channels"] == () and values["full_resolution"] == "level"
    assert reasons[1].startswith("Network: the given segresnet, with its own widths")


def test_given_channels_are_those_that_the_estimate_is_for() -> None:
    """Twice the channels of a width are four times its operations; five levels divide sides by 16."""
    config = preset("auto").with_values({"minutes": 10.0, "channels": (16, 32, 64, 128, 256)})
    given = {"channels": config.model.channels}
    recipe = choose(config, HEADS, given)
    final = recipe.apply(config, given)
    assert final.model.channels == given["channels"] and recipe.values["channels"] == (8, 16, 32, 64)
    (reason,) = (reason for reason in final.reasons if reason.startswith("Network: "))
    assert reason.startswith("Network: U-Net of 16-32-64-128-256 channels, as given: about ")
    assert "given instead" not in reason and "steps fit" in reason
    for channels, kflop_per_voxel in (((16, 32, 64, 128, 256), 326), ((64, 128, 256, 512, 512), 4 * 1_442)):
        fitted = fit_network(config, HEADS, list(HEADS.shapes), {"channels": channels})
        size = fitted.sub_volume.values["sub_volume"] or (64, 64, 64)
        step_s = DEVICE_KINDS["cpu"].sub_volume_s(kflop_per_voxel * math.prod(size) / 1e6)
        assert fitted.training_s / fitted.steps == pytest.approx(step_s) and all(n % 16 == 0 for n in size)


def test_other_given_values_of_the_network_decide_the_multiples_of_a_sub_volume() -> None:
    config = preset("auto").with_values({"minutes": 480.0})
    shapes = list(HIPPOCAMPI.shapes)
    assert fit_network(config, HIPPOCAMPI, shapes).sub_volume.text.startswith("32x48x32 voxels")
    shallow = fit_network(config, HIPPOCAMPI, shapes, {"channels": (8, 16)})
    assert shallow.sub_volume.text.startswith("36x50x34 voxels")


def test_reasons_of_a_time_below_a_second_are_correct() -> None:
    _, reasons = chosen(HEADS, minutes=0.001)
    assert reasons[0].startswith("Time: 0.06 s (CPU) are about 1 step, ")
    assert reasons[1].startswith("Network: U-Net of 8-16-32-64 channels: about 1 step fits; ")
    assert reasons[-1].endswith(" of the 0.06 s")


def test_reasons_stay_with_a_configuration_and_are_absent_from_others() -> None:
    config = choose(preset("auto"), HEADS).apply(preset("auto"))
    assert config.reasons and TrainConfig.from_json(config.to_json()) == config
    assert config.with_values({"fold": 2}).reasons == config.reasons
    assert "reasons" not in preset("fast").to_json()


def test_every_choice_is_of_known_fields_and_leaves_what_is_the_users() -> None:
    recipe: Recipe = choose(preset("auto"), HEADS)
    names = {spec.name for spec in field_specs()}
    assert recipe.values.keys() <= names
    left = {"path", "minutes", "epochs", "device", "devices", "seed", "threads", "init_from", "fold", "folds", "model"}
    assert not left & recipe.values.keys()


@pytest.mark.parametrize("name", ["unet3d", "vnet"])
def test_the_network_of_the_initial_weights_is_kept(name: str) -> None:
    initial = resolve(ModelConfig(name, channels=(4, 8, 16), deep_supervision=True))
    config = preset("auto").with_values({"minutes": 3.0})
    final = choose(config, HIPPOCAMPI, initial=initial).apply(config)
    assert final.model == initial
    (network,) = (reason for reason in final.reasons if reason.startswith("Network: "))
    assert "4-8-16 channels, those of the initial weights: about" in network if name == "unet3d" else name in network
    assert final.reasons[0] == choose(config.with_values({"model": name}), HIPPOCAMPI, {"channels": (4, 8, 16)}).apply(
        config
    ).reasons[0], "the speed is that of this network"  # fmt: skip


def test_another_network_than_that_of_the_initial_weights_can_be_given() -> None:
    config = preset("auto").with_values({"minutes": 3.0, "model": "vnet"})
    recipe = choose(config, HIPPOCAMPI, {"model": "vnet"}, resolve(ModelConfig("unet3d", channels=(4, 8))))
    final = recipe.apply(config, ("model",))
    assert final.model.model == "vnet" and not final.model.channels
    assert final.reasons[1] == "Network: the given vnet, with its own widths; its speed is assumed"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unet3d", "U-Net of 8-16 channels, as given: about "),
        ("vnet", "that of the initial weights, vnet, of 8-16 channels as given; its speed is assumed"),
    ],
)
def test_channels_can_be_given_beside_initial_weights(name: str, reason: str) -> None:
    initial = resolve(ModelConfig(name, channels=(4, 8, 16)))
    if name == "unet3d":
        initial = replace(initial, convolutions=(1, 2, 3))
    config = preset("auto").with_values({"minutes": 3.0, "channels": (8, 16)})
    final = choose(config, HIPPOCAMPI, {"channels": (8, 16)}, initial).apply(config, ("channels",))
    assert final.model.channels == (8, 16) and final.reasons[1].startswith(f"Network: {reason}")
