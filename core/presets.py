"""Presets: named configurations to start from, as data, by the time that they take.

``auto``      chosen for the time, the data and the device (:mod:`core.training.auto_preset`); before these are known it
              has the values of ``fast``.
``quick``     a small network for two minutes of training on a laptop CPU.
``fast``      the highest Dice after a few minutes of training.
``thorough``  as ``fast``, with a larger network and twice the augmentation, for ten minutes and more, when ``fast``
              overfits to few subjects.
``article``   the recipe of the article on 3D brain-MRI segmentation that Segmentarium implements (3D U-Net of Cicek et
              al., plain SGD, batch size 1, 500 sub-volumes of 128x128x64 drawn once, first subject held out).
"""

from __future__ import annotations

import shlex
from typing import Any

from core.config import TrainConfig, field_specs
from core.errors import ConfigError

AUTO = "auto"
AUTO_DURATION = {"minutes": 10.0, "epochs": 40}  # of ``auto``, where none is given
DEFAULT_PRESET = "fast"

PRESETS: dict[str, dict[str, Any]] = {
    "quick": dict(
        resample="median", samples_train=80, samples_val=8, batch_size=1, foreground=0.33,
        channels=(8, 16, 32), convolutions=(1, 2), norm="instance", activation="leaky_relu",
        downsampling="stride", widening="after",
        loss="dice_ce", include_background=False, batch_dice=True,
        optimizer="muon", learning_rate=2e-2, momentum=0.95, weight_decay=1e-2, lr_schedule="trapezoid", warmup=0.03,
        clip_norm=5.0, ema=0.97, epochs=30, whole_every=0, minutes=2.0,
    ),
    "fast": dict(
        resample="median", samples_train=250, samples_val=8, batch_size=1, foreground=0.9,
        affine=0.7, elastic=0.3, intensity=0.15, noise=0.1,
        channels=(8, 16, 32, 64), convolutions=(1, 2), norm="instance", activation="leaky_relu",
        downsampling="stride", widening="after", full_resolution="detail",
        loss="dice_ce", include_background=False, batch_dice=True,
        optimizer="muon", learning_rate=2e-2, momentum=0.95, weight_decay=1e-2, lr_schedule="trapezoid", warmup=0.03,
        clip_norm=5.0, ema=0.99, epochs=300, whole_every=20,
    ),
    "thorough": dict(
        resample="median", samples_train=250, samples_val=8, batch_size=1, foreground=0.9,
        affine=0.9, elastic=0.7, intensity=0.4, noise=0.1,
        channels=(16, 32, 64, 128), norm="instance", activation="leaky_relu",
        downsampling="stride", widening="after",
        loss="dice_ce", include_background=False, batch_dice=True,
        optimizer="muon", learning_rate=2e-2, momentum=0.95, weight_decay=1e-2, lr_schedule="trapezoid", warmup=0.03,
        clip_norm=5.0, ema=0.999, epochs=300, whole_every=5,
    ),
    "article": dict(
        normalisation="full_volume_mean",
        folds=0, fold=0, shuffle_subjects=False,
        sub_volume=(128, 128, 64), samples_train=500, samples_val=10, batch_size=1, draw_once=True,
        flip=0.0,
        model="unet3d", channels=(64, 128, 256, 512), norm="batch", activation="relu", downsampling="pool",
        widening="before",
        loss="dice", include_background=True,
        optimizer="sgd", learning_rate=1e-3, momentum=0.0, weight_decay=1e-8,
        whole_every=0, inference_mode="tiles", overlap=0.0, epochs=200, precision="fp32",
    ),
}  # fmt: skip

PRESET_NAMES = (AUTO, *PRESETS)
PRESET_HELP = {
    AUTO: "network, sub-volume, augmentation and schedule chosen for the time, the data and the device",
    "quick": "a small network for two minutes of training on a laptop",
    "fast": "highest Dice after a few minutes of training, on any device",
    "thorough": "for ten minutes and more: larger network, twice the augmentation",
    "article": "the recipe of the article, unchanged; for a GPU",
}


def preset(name: str) -> TrainConfig:
    """The configuration of a preset, by name.

    Raises
    ------
    ConfigError
        If there is no preset with that name.
    """
    if name == AUTO:
        return TrainConfig(preset=AUTO).with_values({**PRESETS[DEFAULT_PRESET], **AUTO_DURATION})
    if name not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(PRESET_NAMES)}; got {name!r}")
    return TrainConfig(preset=name).with_values(PRESETS[name])


def command_line(config: TrainConfig, command: str = "train", name: str = "", base: TrainConfig | None = None) -> str:
    """The command line for exactly this configuration: ``python -m core train DATA --preset fast --epochs 20``.

    Parameters
    ----------
    config : TrainConfig. One that ``auto`` chose is written out with all of its values, beside another preset.
    command, name : str. Sub-command, and name of the run.
    base : TrainConfig, optional. What its preset gives; to be named for ``auto``, as long as time, data and device are
        those that it was chosen for.
    """
    preset_name = config.preset if config.preset in PRESETS else DEFAULT_PRESET
    if base is not None:
        preset_name = base.preset
    parts = ["python", "-m", "core", command, config.data.path or "DATA", "--preset", preset_name]
    if name:
        parts += flag_words("--name", name)
    values, preset_values = config.values(), (base or preset(preset_name)).values()
    for spec in field_specs():
        changed = values[spec.name] != preset_values[spec.name]
        # --epochs without --minutes resets the time budget, so the budget has to be given as well
        reset = spec.name == "minutes" and values["epochs"] != preset_values["epochs"] and values["minutes"]
        if spec.name != "path" and (changed or reset):
            parts += flag_words(spec.flag, spec.format(values[spec.name]))
    return shlex.join(parts)


def flag_words(flag: str, value: str) -> list[str]:
    """The words of an option with its value on a command line: one word where the value begins like an option, as the
    ID of a subject may."""
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
