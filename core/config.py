"""Configuration of a training run: frozen dataclasses that document and validate each field.

Forms, command-line flags and ``config.json`` are generated from the fields (:func:`field_specs`), so a new option is
one new field. Field names are unique over all sections. ``()`` means that :mod:`core.training.plan` derives the value
from the data.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from core import choices
from core.choices import (
    Acceleration,
    Activation,
    Device,
    Downsampling,
    FullResolution,
    InferenceMode,
    Lateral,
    LossName,
    LrSchedule,
    Normalisation,
    NormLayer,
    OptimizerName,
    Precision,
    Resample,
    Widening,
)
from core.errors import ConfigError
from core.fields import Checked, FieldSpec, option, specs_of

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DataConfig(Checked):
    """Data: folder, modalities and classes; intensity normalisation and resampling."""

    path: str = option(
        "", "Data set", "folder of the data set; 'demo': the synthetic demo data, made on first use", advanced=False
    )
    layout: str = option("auto", "Folder layout", "folder layout; auto: detected")
    modalities: tuple[str, ...] = option(
        (), "Modalities", "input channels, in order; empty: all modalities", advanced=False
    )
    classes: tuple[str, ...] = option((), "Classes", "classes to segment; all others become background; empty: all")
    ignore: str = option(
        "auto",
        "Ignored label",
        "label left out of training and scores, by name or value; auto: one named ignore or the like; none: no label",
    )
    nan_is_zero: bool = option(False, "Read NaN as 0", "read NaN as 0, for files with NaN outside the field of view")
    force: bool = option(
        False,
        "Train despite errors in the data",
        "train although the check of the data finds errors, but for files that cannot be read",
    )
    normalisation: Normalisation = option(
        "auto",
        "Intensity normalisation",
        "intensity normalisation, per modality; auto: ct for Hounsfield units, else z_score",
        texts=choices.NORMALISATION_WORDS,
    )
    resample: Resample = option(
        "none",
        "Resampling",
        "median: resample every subject to the median voxel size of the data set",
        texts=choices.RESAMPLE_WORDS,
    )
    spacing_mm: tuple[float, ...] = option(
        (),
        "Voxel size to resample to",
        "resample every subject to this voxel size instead",
        unit="mm",
        minimum=0.0001,
        maximum=100,
        length=3,
    )
    resident_gb: float = option(
        0.0,
        "Device memory for the data",
        "device memory for images and labels; the rest is streamed from disk; 0: all free memory",
        unit="GB",
        minimum=0,
        maximum=10**6,
        zero="all free memory",
    )


@dataclass(frozen=True)
class SplitConfig(Checked):
    """Split: training subjects, held-out subjects for validation (they choose the best epoch) and test subjects."""

    folds: int = option(
        5,
        "Cross-validation folds",
        "cross-validation folds; 0: one per subject (leave one out), as the default is with fewer subjects",
        minimum=0,
        maximum=1000,
        zero="one per subject",
    )
    fold: int = option(
        0, "Held-out fold", "fold that is held out for validation, from 0", minimum=0, maximum=999, advanced=False
    )
    shuffle_subjects: bool = option(
        True,
        "Assign subjects to folds at random",
        "assign subjects to folds in random order (seeded) instead of by name",
    )
    split_seed: int = option(0, "Seed of the random folds", "seed of the random order", minimum=0, maximum=2**31 - 1)
    val_subjects: tuple[str, ...] = option((), "Validation subjects", "ids of the held-out subjects, instead of a fold")
    test_subjects: tuple[str, ...] = option(
        (), "Test subjects", "ids of test subjects, excluded from training and validation"
    )

    def check(self) -> None:
        if self.folds == 1:
            raise ConfigError("folds: expected 0 (leave one out) or at least 2, got 1")
        if self.folds and self.fold >= self.folds:
            raise ConfigError(f"fold: expected 0 to {self.folds - 1} with {self.folds} folds, got {self.fold}")
        both = set(self.val_subjects) & set(self.test_subjects)
        if both:
            raise ConfigError(f"test_subjects: {sorted(both)} are in val_subjects too; a subject has one role")


@dataclass(frozen=True)
class SamplingConfig(Checked):
    """Sub-volumes: size, number per epoch, and how their positions are drawn."""

    sub_volume: tuple[int, ...] = option(
        (),
        "Sub-volume size",
        "size of a sub-volume; empty: fitted to the data and device",
        unit="voxels",
        minimum=8,
        maximum=1024,
        length=3,
        advanced=False,
    )
    samples_train: int = option(
        250, "Sub-volumes per epoch", "sub-volumes per training epoch", minimum=1, maximum=10**6, advanced=False
    )
    samples_val: int = option(
        16, "Sub-volumes per validation", "sub-volumes per validation; 0: none", minimum=0, maximum=10**5, zero="none"
    )
    batch_size: int = option(2, "Batch size", "sub-volumes per batch", minimum=1, maximum=1024, advanced=False)
    draw_once: bool = option(
        False, "Same sub-volumes in every epoch", "draw the training sub-volumes once and reuse them in every epoch"
    )
    threshold: float = option(
        0.0,
        "Least labelled share of a sub-volume",
        "least share of labelled voxels in a drawn sub-volume",
        unit="share",
        minimum=0.0,
        maximum=0.99,
        zero="none",
    )
    foreground: float = option(
        0.0,
        "Share of sub-volumes centred on a class",
        "share of sub-volumes centred on a voxel of a random foreground class",
        unit="share",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Augmentation: random transforms of training sub-volumes; spatial ones apply to image and label alike."""

    flip: float = option(
        0.5,
        "Probability of a left-right flip",
        "probability of a left-right flip",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    lateral: Lateral = option(
        "auto",
        "Left and right classes",
        "left and right classes when images are mirrored; swap: exchange the labels of each pair; off: do not mirror; "
        "ignore: keep the labels; auto: swap pairs known by name and position, off where a partner is missing",
        texts=choices.LATERAL_WORDS,
    )
    lateral_pairs: tuple[str, ...] = option(
        (),
        "Pairs of left and right classes",
        "classes that are left and right of one structure, pair after pair; empty: found by name and position",
    )
    affine: float = option(
        0.0,
        "Probability of rotation and scaling",
        "probability of rotation and scaling",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    rotation_deg: float = option(
        15.0, "Largest rotation", "largest rotation about each axis", unit="degrees", minimum=0, maximum=180
    )
    scaling: float = option(
        0.15, "Largest change of size", "largest relative change of size", unit="share", minimum=0, maximum=0.9
    )
    elastic: float = option(
        0.0,
        "Probability of an elastic deformation",
        "probability of an elastic deformation",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    elastic_voxels: float = option(
        2.0,
        "Elastic displacement, standard deviation",
        "standard deviation of the elastic displacements",
        unit="voxels",
        minimum=0,
        maximum=50,
    )
    intensity: float = option(
        0.0,
        "Probability of each change of intensity",
        "probability of each of brightness, contrast, gamma, bias field, blur, low resolution",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    noise: float = option(
        0.0,
        "Largest noise",
        "largest standard deviation of Gaussian noise, relative to the image's",
        unit="share",
        minimum=0,
        maximum=10,
        zero="none",
    )

    @property
    def stated_pairs(self) -> tuple[tuple[str, str], ...]:
        """``lateral_pairs`` by two."""
        return tuple(zip(self.lateral_pairs[::2], self.lateral_pairs[1::2], strict=True))

    def check(self) -> None:
        if len(self.lateral_pairs) % 2:
            raise ConfigError(
                "lateral_pairs: expected an even number of classes, such as left,right; got "
                f"{', '.join(self.lateral_pairs)}"
            )


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Network: architecture and width."""

    model: str = option("unet3d", "Network", "architecture: unet3d or vnet", advanced=False)
    channels: tuple[int, ...] = option(
        (),
        "Channels per level",
        "channels per level, full resolution first; empty: default of the architecture",
        unit="channels",
        minimum=1,
        maximum=4096,
    )
    convolutions: tuple[int, ...] = option(
        (),
        "Convolutions per level",
        "convolutions per level of unet3d, full resolution first; the last holds for all deeper levels; empty: 2",
        unit="convolutions",
        minimum=1,
        maximum=8,
    )
    norm: NormLayer = option(
        "batch",
        "Normalisation layer",
        "normalisation layer after each convolution",
        texts=choices.NORM_LAYER_WORDS,
    )
    activation: Activation = option(
        "relu",
        "Activation",
        "activation after each normalisation layer",
        texts=choices.ACTIVATION_WORDS,
    )
    downsampling: Downsampling = option(
        "pool",
        "Down-sampling",
        "2x2x2 max pooling or strided convolution",
        texts=choices.DOWNSAMPLING_WORDS,
    )
    widening: Widening = option(
        "before",
        "Doubling of the channels",
        "double channels before down-sampling (Cicek et al.) or after it (nnU-Net)",
        texts=choices.WIDENING_WORDS,
    )
    full_resolution: FullResolution = option(
        "level",
        "Full resolution",
        "level: unet3d has a full level there; detail: a shallow branch parallel to a U-Net at half resolution",
        texts=choices.FULL_RESOLUTION_WORDS,
    )

    def check(self) -> None:
        if len(self.channels) == 1 or len(self.channels) > 8:
            raise ConfigError(f"channels: expected 2 to 8 resolutions or none, got {len(self.channels)}")
        if len(self.convolutions) > (len(self.channels) or 8):
            raise ConfigError(
                f"convolutions: expected at most one number for each of the {len(self.channels) or 8} resolutions, got "
                f"{len(self.convolutions)}"
            )


@dataclass(frozen=True)
class LossConfig(Checked):
    """Loss: the training objective."""

    loss: LossName = option(
        "dice",
        "Loss",
        "multi-class Dice loss, or Dice plus cross-entropy",
        texts=choices.LOSS_NAME_WORDS,
    )
    include_background: bool = option(True, "Background in the Dice loss", "include the background in the Dice loss")
    batch_dice: bool = option(
        False, "One Dice over the batch", "one Dice over the whole batch instead of one per sub-volume"
    )
    dice_smooth: float = option(
        1e-5, "Smoothing of the Dice loss", "added to numerator and denominator of the Dice", minimum=0, maximum=1e6
    )


@dataclass(frozen=True)
class OptimConfig(Checked):
    """Optimisation: optimizer, learning rate and gradients."""

    optimizer: OptimizerName = option(
        "sgd",
        "Optimizer",
        "optimizer",
        texts=choices.OPTIMIZER_NAME_WORDS,
    )
    learning_rate: float = option(
        1e-3, "Learning rate", "peak learning rate", minimum=1e-12, maximum=100, advanced=False
    )
    momentum: float = option(0.0, "Momentum", "momentum of sgd, rmsprop and muon", minimum=0, maximum=0.9999)
    weight_decay: float = option(
        1e-8, "Weight decay", "weight decay (decoupled for adamw and muon, L2 for the others)", minimum=0, maximum=10
    )
    lr_schedule: LrSchedule = option(
        "constant",
        "Learning-rate schedule",
        "learning-rate schedule",
        texts=choices.LR_SCHEDULE_WORDS,
    )
    warmup: float = option(
        0.0, "Warm-up", "share of the run for learning-rate warm-up", unit="share", minimum=0, maximum=0.5, zero="none"
    )
    accumulate: int = option(
        1,
        "Gradient accumulation",
        "batches per optimizer step (gradient accumulation)",
        unit="batches",
        minimum=1,
        maximum=1024,
    )
    clip_norm: float = option(
        0.0,
        "Largest gradient norm",
        "largest gradient norm (clipping); 0: no clipping",
        minimum=0,
        maximum=1e9,
        zero="no clipping",
    )
    ema: float = option(
        0.0,
        "Decay of the averaged weights (EMA)",
        "decay of the exponential moving average (EMA) of the weights; 0: none",
        minimum=0,
        maximum=0.99999,
        zero="none",
    )


@dataclass(frozen=True)
class ValidationConfig(Checked):
    """Validation and prediction: segmentation of whole volumes, early stopping."""

    whole_every: int = option(
        10,
        "Whole-volume validation every",
        "epochs between whole-volume validations, more where they would take over 5 % of a time budget (one is always "
        "at the end); 0: never",
        unit="epochs",
        minimum=0,
        maximum=10**6,
        zero="never",
    )
    overlap: float = option(
        0.5,
        "Overlap of tiles",
        "overlap of neighbouring tiles in sliding-window inference",
        unit="share",
        minimum=0,
        maximum=0.9,
    )
    mirror: bool = option(
        False, "Average with the mirrored image", "average the prediction with that of the left-right mirrored image"
    )
    inference_mode: InferenceMode = option(
        "auto",
        "Inference",
        "tiles: sliding window; whole: the whole volume in one pass; auto: the better of both on held-out subjects",
        texts=choices.INFERENCE_MODE_WORDS,
    )
    patience: int = option(
        0,
        "Early stopping after",
        "stop early after this many whole-volume validations without a better smoothed Dice; 0: never",
        unit="validations",
        minimum=0,
        maximum=10**6,
        zero="never",
    )

    def check(self) -> None:
        if self.patience and not self.whole_every:
            raise ConfigError(
                f"patience: expected 0 where whole_every is 0, got {self.patience}; whole volumes must be validated"
            )


@dataclass(frozen=True)
class RunConfig(Checked):
    """Run: duration, device, seed and checkpoints."""

    epochs: int = option(100, "Epochs", "number of epochs", minimum=1, maximum=10**6, unit="epochs", advanced=False)
    minutes: float = option(
        0.0,
        "Time budget",
        "time budget from the first step on; the learning-rate schedule is fitted to it; 0: train for the number of "
        "epochs",
        unit="minutes",
        minimum=0,
        maximum=10**6,
        advanced=False,
        zero="none",
    )
    device: Device = option(
        "auto",
        "Device",
        "device; auto: CUDA if available",
        advanced=False,
        texts=choices.DEVICE_WORDS,
    )
    devices: int = option(
        1,
        "Number of devices",
        "number of GPUs (on a CPU: processes) for data-parallel training; gradients are averaged as with accumulate",
        unit="devices",
        minimum=1,
        maximum=64,
    )
    precision: Precision = option(
        "auto",
        "Precision",
        "auto: bf16 mixed precision if the device supports it, else fp32",
        texts=choices.PRECISION_WORDS,
    )
    seed: int = option(0, "Seed", "seed of weights, sub-volumes and augmentation", minimum=0, maximum=2**31 - 1)
    deterministic: bool = option(
        False,
        "Bit-for-bit repeatable",
        "bit-for-bit the same weights for the same seed, torch build, threads and device; slower on a GPU",
    )
    acceleration: Acceleration = option(
        "auto",
        "Launch of training steps",
        "launch of training steps: eager (none), torch.compile, a CUDA graph, both, or the fastest (auto)",
        texts=choices.ACCELERATION_WORDS,
    )
    threads: int = option(0, "CPU threads", "CPU threads; 0: all cores", minimum=0, maximum=1024, zero="all cores")
    init_from: str = option(
        "", "Initial weights", "initial weights: a run, a checkpoint, or a PyTorch file of another program (.pth)"
    )
    checkpoint_minutes: float = option(
        5.0,
        "Checkpoint at least every",
        "longest time between checkpoints; one is also written after every validation",
        unit="minutes",
        minimum=0.01,
        maximum=10**4,
    )
    keep_every: int = option(
        0,
        "Keep a checkpoint every",
        "epochs between checkpoints that are kept, besides last and best; 0: none",
        unit="epochs",
        minimum=0,
        maximum=10**6,
        zero="none",
    )

    def check(self) -> None:
        if self.deterministic and self.minutes:
            raise ConfigError(
                f"deterministic: expected a number of epochs, got a budget of {self.minutes:g} minutes; a run that "
                "ends by the clock cannot be repeated exactly: choose --epochs (or --minutes 0)"
            )
        if self.devices > 1 and self.acceleration in ("graph", "compiled_graph"):
            raise ConfigError(
                f"acceleration: expected none, compile or auto on {self.devices} devices, got {self.acceleration}; a "
                "CUDA graph is captured on one device"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run by section. ``preset`` records the preset that the values started from."""

    preset: str = "custom"
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def with_values(self, values: Mapping[str, Any]) -> TrainConfig:
        """A copy with fields replaced: ``{"learning_rate": 0.01, "fold": 2}``.

        Raises
        ------
        ConfigError
            If a name is unknown or a value is invalid.
        """
        by_section: dict[str, dict[str, Any]] = {}
        section_of = {spec.name: spec.section for spec in field_specs()}
        for name, value in values.items():
            if name == "preset":
                continue
            if name not in section_of:
                raise ConfigError(f"expected a configuration field, got {name!r}; known: {', '.join(section_of)}")
            by_section.setdefault(section_of[name], {})[name] = value
        changed: dict[str, Any] = {
            section: dataclasses.replace(getattr(self, section), **part) for section, part in by_section.items()
        }
        if "preset" in values:
            changed["preset"] = str(values["preset"])
        return dataclasses.replace(self, **changed)

    @property
    def sub_volumes_per_step(self) -> int:
        """Sub-volumes per optimizer step, over all devices."""
        return self.sampling.batch_size * self.optim.accumulate * self.run.devices

    @property
    def swapped_classes(self) -> tuple[tuple[int, int], ...]:
        """Pairs of class indices that left-right mirroring exchanges, in a configuration with all classes resolved.

        Raises
        ------
        ConfigError
            If a name is not a class.
        """
        if self.augment.lateral != "swap":
            return ()
        classes = self.data.classes
        unknown = [name for name in self.augment.lateral_pairs if name not in classes]
        if unknown:
            raise ConfigError(f"lateral_pairs: expected classes out of {', '.join(classes)}; got {', '.join(unknown)}")
        return tuple((1 + classes.index(left), 1 + classes.index(right)) for left, right in self.augment.stated_pairs)

    def values(self) -> dict[str, Any]:
        """All fields as one flat dictionary."""
        return {spec.name: getattr(getattr(self, spec.section), spec.name) for spec in field_specs()}

    def to_json(self) -> dict[str, Any]:
        """JSON values by section, with the format version."""
        return {"version": FORMAT_VERSION, **json.loads(json.dumps(dataclasses.asdict(self)))}

    @classmethod
    def from_json(cls, data: Any) -> TrainConfig:
        """The inverse of :meth:`to_json`; missing fields get their defaults.

        Raises
        ------
        ConfigError
            If the data is not a configuration, has a newer version, or contains an unknown field or invalid value.
        """
        if not isinstance(data, dict) or not isinstance(data.get("version"), int):
            raise ConfigError("expected a configuration (an object with a version); the file is damaged")
        if data["version"] > FORMAT_VERSION:
            raise ConfigError(
                f"expected configuration version {FORMAT_VERSION} or older, got {data['version']}; update Segmentarium"
            )
        defaults = cls()
        flat: dict[str, Any] = {"preset": data.get("preset", "custom")}
        sections = {f.name for f in fields(cls)} - {"preset"}
        for name, part in data.items():
            if name in ("version", "preset"):
                continue
            if name not in sections or not isinstance(part, dict):
                raise ConfigError(f"expected the sections {sorted(sections)}, got {name!r}")
            unknown = sorted(set(part) - {f.name for f in fields(getattr(defaults, name))})
            if unknown:
                raise ConfigError(f"expected fields of the section {name}, got {', '.join(unknown)}")
            flat.update(part)
        return defaults.with_values(flat)


@functools.cache
def field_specs() -> tuple[FieldSpec, ...]:
    """All fields of :class:`TrainConfig`, in order."""
    hints = typing.get_type_hints(TrainConfig)
    sections = [f.name for f in fields(TrainConfig) if f.name != "preset"]
    return tuple(spec for name in sections for spec in specs_of(hints[name], section=name))


def section_titles() -> dict[str, tuple[str, str]]:
    """``{section: (title, description)}``, parsed from the docstrings of the sections, in order."""
    hints = typing.get_type_hints(TrainConfig)
    titles = {}
    for f in fields(TrainConfig):
        if f.name != "preset":
            title, _, sentence = (hints[f.name].__doc__ or "").strip().partition(": ")
            titles[f.name] = (title, sentence[:1].upper() + sentence[1:])
    return titles


def changed_fields(config: TrainConfig, base: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """``{field: (value in base, value in config)}`` of the fields that differ."""
    values, before = config.values(), base.values()
    return {name: (before[name], values[name]) for name in values if values[name] != before[name]}
