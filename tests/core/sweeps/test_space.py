"""Search spaces: their text, errors that name the field, suggestions, conditions, combinations."""

from __future__ import annotations

import json

import pytest

from core.config import TrainConfig, field_specs
from core.errors import ConfigError
from core.presets import PRESETS, preset
from core.sweeps.space import (
    Dimension,
    combinations,
    grid_of,
    is_valid,
    key_of,
    parse_dimension,
    parse_space,
    searchable_specs,
    suggest,
    used_values,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=1e-4:1e-2:log", Dimension("learning_rate", (), 1e-4, 1e-2, True)),
        ("--learning-rate = 0.001:0.01", Dimension("learning_rate", (), 0.001, 0.01)),
        ("affine=0:1:0.25", Dimension("affine", (), 0, 1, False, 0.25)),
        ("batch_size=1:4", Dimension("batch_size", (), 1, 4)),
        ("batch_size=1,4", Dimension("batch_size", (1, 4))),
        ("loss=dice, dice_ce", Dimension("loss", ("dice", "dice_ce"))),
        ("mirror=true,false", Dimension("mirror", (True, False))),
        ("channels=16x32x64,32x64", Dimension("channels", ((16, 32, 64), (32, 64)))),
        ("modalities=T1,T1+T2", Dimension("modalities", (("T1",), ("T1", "T2")))),
        ("model=UNET3D,VNET", Dimension("model", ("unet3d", "vnet"))),
        ("warmup=none,0.1", Dimension("warmup", (0.0, 0.1))),
    ],
)
def test_text_of_a_field_is_read_and_written(text: str, expected: Dimension) -> None:
    (dimension,) = parse_space([text])
    assert dimension == expected
    assert parse_dimension(dimension.name, dimension.text) == dimension
    assert Dimension.from_json(json.loads(json.dumps(dimension.to_json()))) == dimension


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["learning_rate"], r"FIELD=LOW:HIGH.*learning_rate=0\.0001:0\.01:log"),
        (["lr=1:2"], "expected a field.*'lr'.*learning_rate"),
        (["learning_rate=1e-2:1e-4"], "learning_rate: expected a range from low to high"),
        (["learning_rate=0:1"], "learning_rate: expected a number from 1e-12 to 100"),
        (["noise=0:1:log"], "noise: expected a range above 0 for log"),
        (["learning_rate=0.1:0.2:0.5"], "learning_rate: expected log or a step.*at most 0.1"),
        (["batch_size=1:4:0.5"], "batch_size: expected log or a whole step"),
        (["batch_size=1.5:4"], "batch_size: expected a whole number"),
        (["learning_rate=1:2:3:4"], "learning_rate: expected LOW:HIGH"),
        (["loss=dice"], "loss: expected two or more different values out of dice, .*cldice"),
        (["loss=dice,dise"], "loss: expected one of dice, .*; got 'dise'"),
        (["mirror=true"], "mirror: expected two or more different values"),
        (["model=UNET3D,unet3d"], "model: expected two or more different values; got .*, which is unet3d each time"),
        (["model=unet3d,unet4d"], "model: expected one of unet3d"),
        (["seed=1,2"], "seed decides what is measured"),
        (["fold=0,1"], "fold decides what is measured"),
        (["momentum=0:0.9", "momentum=0.5:0.9"], "momentum twice"),
        ([], "one or more fields"),
    ],
)
def test_text_that_is_wrong_is_refused_with_the_field_and_its_values(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space(texts)


@pytest.mark.parametrize("name", PRESETS)
def test_suggestion_for_every_field_is_one_that_can_be_searched(name: str) -> None:
    config = preset(name)
    for spec in searchable_specs(config):
        if text := suggest(spec, config):
            dimension = parse_dimension(spec.name, text)
            assert all(is_valid({spec.name: value}, config) for value in dimension.choices)
            if not dimension.choices:
                assert all(is_valid({spec.name: spec.coerce(v)}, config) for v in (dimension.low, dimension.high))


def test_suggestion_is_around_the_present_value() -> None:
    specs = {spec.name: spec for spec in field_specs()}
    config = TrainConfig().with_values({"learning_rate": 0.02, "rotation_deg": 20.0})
    assert suggest(specs["learning_rate"], config) == "0.002:0.2:log"
    assert suggest(specs["rotation_deg"], config) == "10:40"
    assert suggest(specs["affine"], config) == "0:1"
    assert "vae" not in suggest(specs["loss"], config)  # it needs another network


def test_options_of_another_network_or_loss_are_not_searched() -> None:
    space = parse_space(["tversky_alpha=0.1:0.9", "loss=dice,tversky", "convolutions=1,2", "model=unet3d,vnet"])
    values = {"loss": "dice", "model": "vnet", "tversky_alpha": 0.5, "convolutions": (1,)}
    assert used_values(space, values, TrainConfig()) == {"loss": "dice", "model": "vnet"}
    assert used_values(space, values | {"loss": "tversky"}, TrainConfig())["tversky_alpha"] == 0.5


def test_combinations_are_different_trials() -> None:
    space = parse_space(["loss=dice,tversky", "tversky_alpha=0.2,0.4", "batch_size=1:2"])
    rows = list(combinations(space, TrainConfig()) or ())
    assert len(rows) == len({key_of(row) for row in rows}) == 6  # dice has no alpha: 1 x 2 + 2 x 2
    assert combinations(parse_space(["learning_rate=1e-4:1e-2"]), TrainConfig()) is None


def test_grid_of_a_range_has_evenly_spaced_values() -> None:
    (log,) = grid_of(parse_space(["learning_rate=1e-4:1e-2:log"]), 5)
    assert log.choices == (1e-4, 0.000316228, 1e-3, 0.00316228, 1e-2)
    (whole,) = grid_of(parse_space(["samples_train=100:200"]), 5)
    assert whole.choices == (100, 125, 150, 175, 200)
    (few,) = grid_of(parse_space(["batch_size=1:4"]), 5)
    assert few.values == (1, 2, 3, 4)
