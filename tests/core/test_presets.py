"""Presets: valid, serialisable, the article's recipe exactly; the command line that gives a configuration."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import Any

import pytest
import torch

from core.cli.options import add_config_flags, config_from
from core.config import TrainConfig, changed_fields, field_specs
from core.errors import ConfigError
from core.models import MODELS
from core.models.build import build_model
from core.presets import PRESET_HELP, PRESET_NAMES, PRESETS, command_line, preset


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_preset_round_trips_through_text_and_json(name: str) -> None:
    config = preset(name)
    assert config.preset == name
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config
    for spec in field_specs():
        value = getattr(getattr(config, spec.section), spec.name)
        assert spec.parse(spec.format(value)) == value


@pytest.mark.parametrize("name", PRESETS)
def test_preset_sets_exactly_its_values(name: str) -> None:
    values = preset(name).values()
    assert {key: values[key] for key in PRESETS[name]} == PRESETS[name]
    assert set(changed_fields(preset(name), TrainConfig())) <= set(PRESETS[name])
    assert not {"path", "device", "seed", "threads", "init_from"} & set(PRESETS[name]), "left to the user"


@pytest.mark.parametrize("name", PRESETS)
def test_preset_builds_its_network(name: str) -> None:
    with torch.device("meta"):
        network = build_model(preset(name).model, 2, 4)
        assert network(torch.empty(1, 2, 32, 32, 32)).shape == (1, 4, 32, 32, 32)


@pytest.mark.parametrize("changes", [{}, {"epochs": 20}, {"sub_volume": (64, 64, 32), "minutes": 3.0, "epochs": 7}])
@pytest.mark.parametrize("name", PRESETS)
def test_command_line_gives_the_same_configuration(name: str, changes: dict[str, Any]) -> None:
    config = preset(name).with_values({"path": "DATA", **changes})
    program = shlex.split(command_line(config, name="a b"))
    assert program[:4] == ["python", "-m", "core", "train"]
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    args = parser.parse_args(program[4:])
    assert config_from(args) == config and args.name == "a b"


def test_unknown_preset_is_rejected() -> None:
    with pytest.raises(ConfigError, match="preset: expected one of auto, quick, fast, thorough, article; got 'slow'"):
        preset("slow")


def test_recipe_of_the_article() -> None:
    article = preset("article")
    model, sampling, optim, split = article.model, article.sampling, article.optim, article.split
    channels = model.channels or MODELS[model.model].channels
    assert (model.model, channels, model.norm, model.activation) == ("unet3d", (64, 128, 256, 512), "batch", "relu")
    assert (model.downsampling, model.widening) == ("pool", "before")
    with torch.device("meta"):
        network = build_model(model, in_channels=2, classes=4)
    assert sum(p.numel() for p in network.parameters()) == 19_074_724
    assert (article.loss.loss, article.loss.include_background, article.loss.batch_dice) == ("dice", True, False)
    assert (sampling.sub_volume, sampling.batch_size) == ((128, 128, 64), 1)
    assert (sampling.samples_train, sampling.samples_val, sampling.draw_once) == (500, 10, True)
    assert (sampling.threshold, sampling.foreground) == (0, 0)
    assert (optim.optimizer, optim.learning_rate, optim.momentum, optim.weight_decay) == ("sgd", 1e-3, 0, 1e-8)
    assert (optim.lr_schedule, optim.warmup, optim.clip_norm, optim.ema) == ("constant", 0, 0, 0)
    # Leave one out, in order of name; the first subject is held out.
    assert (split.folds, split.fold, split.shuffle_subjects) == (0, 0, False)
    assert (split.val_subjects, split.test_subjects) == ((), ())
    augment = article.augment
    assert (augment.flip, augment.affine, augment.elastic, augment.intensity, augment.noise) == (0, 0, 0, 0, 0)
    assert (article.data.modalities, article.data.classes, article.data.resample) == ((), (), "none")
    assert (article.validation.inference_mode, article.run.precision, article.run.minutes) == ("tiles", "fp32", 0)


def test_presets_stand_in_the_order_of_the_time_that_they_take() -> None:
    assert list(PRESET_NAMES) == ["auto", "quick", "fast", "thorough", "article"] == list(PRESET_HELP)


def test_a_configuration_of_auto_is_written_out_unless_its_base_is_known() -> None:
    config = preset("auto").with_values({"path": "DATA", "ema": 0.5, "minutes": 3.0})
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    again = config_from(parser.parse_args(shlex.split(command_line(config))[4:]))
    assert again.values() == config.values(), "exactly the values, whatever the data is by then"
    base = preset("auto").with_values({"path": "DATA", "ema": 0.5})
    assert command_line(config, base=base) == "python -m core train DATA --preset auto --minutes 3.0"
