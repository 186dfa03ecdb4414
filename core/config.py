"""The configuration of a training run: frozen dataclasses that document and validate every field.

Forms, command-line flags and the JSON in a run's folder are all made from the fields here (:func:`field_specs`), so a
new option is one new field. Leaf names are unique over all sections. ``()`` and ``None`` mean "decided from the data by
:mod:`core.training.plan`".
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from core.errors import ConfigError
from core.fields import Checked, FieldSpec, option, specs_of

FORMAT_VERSION = 1

Normalisation = Literal["max_min", "full_volume_mean", "brats", "max", "mean", "z_score"]
Resample = Literal["none", "median"]
NormLayer = Literal["batch", "instance", "group"]
Activation = Literal["relu", "leaky_relu", "prelu"]
Downsampling = Literal["pool", "stride"]
Widening = Literal["before", "after"]
FullResolution = Literal["level", "detail"]
LossName = Literal["dice", "dice_ce"]
OptimizerName = Literal["sgd", "adam", "rmsprop", "adamw", "muon"]
LrSchedule = Literal["constant", "cosine", "poly", "one_cycle", "trapezoid"]
Device = Literal["auto", "cuda", "cpu"]
Precision = Literal["auto", "fp32", "bf16"]
InferenceMode = Literal["auto", "tiles", "whole"]
Acceleration = Literal["auto", "none", "compile", "graph", "compiled_graph"]


@dataclass(frozen=True)
class DataConfig(Checked):
    """Data: which folder, which images of it, and how intensities and voxel sizes are made comparable."""

    path: str = option("", "folder of the data set; 'demo' makes the synthetic demo data on first use", advanced=False)
    layout: str = option("auto", "how the folder is organised; auto recognises it")
    modalities: tuple[str, ...] = option((), "modalities used as input channels, in order; empty: all", advanced=False)
    classes: tuple[str, ...] = option((), "classes to segment; the others count as background; empty: all")
    normalisation: Normalisation = option("z_score", "how intensities of each modality and subject are rescaled")
    resample: Resample = option("none", "median: bring every subject to the data set's median voxel size")
    spacing_mm: tuple[float, ...] = option(
        (), "bring every subject to this voxel size instead", unit="mm", minimum=0.01, maximum=100, length=3
    )
    resident_gb: float = option(
        0.0, "most that images and labels may take on the device; what exceeds it is streamed from disk; 0: what fits",
        unit="GB", minimum=0, maximum=10**6,
    )  # fmt: skip


@dataclass(frozen=True)
class SplitConfig(Checked):
    """Split: which subjects train, which choose the best epoch (validation), which are never looked at (test)."""

    folds: int = option(
        5, "number of cross-validation folds; 0: one fold per subject (leave one out)", minimum=0, maximum=1000
    )
    fold: int = option(0, "the fold held out for validation, counted from 0", minimum=0, maximum=999, advanced=False)
    shuffle_subjects: bool = option(True, "deal subjects to folds in a random (seeded) order instead of by name")
    split_seed: int = option(0, "seed of that order", minimum=0, maximum=2**31 - 1)
    val_subjects: tuple[str, ...] = option((), "held-out subjects by id, instead of a fold")
    test_subjects: tuple[str, ...] = option((), "subjects by id that neither train nor validate")

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
    """Sub-volumes: how large they are, how many make an epoch, and where they are drawn."""

    sub_volume: tuple[int, ...] = option(
        (), "size of a sub-volume; empty: fitted to data and device", unit="voxels", minimum=8, maximum=1024, length=3,
        advanced=False,
    )  # fmt: skip
    samples_train: int = option(250, "sub-volumes per training epoch", minimum=1, maximum=10**6, advanced=False)
    samples_val: int = option(16, "sub-volumes per validation; 0: none", minimum=0, maximum=10**5)
    batch_size: int = option(2, "sub-volumes per step", minimum=1, maximum=1024, advanced=False)
    draw_once: bool = option(False, "draw the training sub-volumes once from the seed and reuse them every epoch")
    threshold: float = option(
        0.0, "least labelled share of a drawn sub-volume", unit="share", minimum=0.0, maximum=0.99
    )
    foreground: float = option(
        0.0, "share of sub-volumes centred on a voxel of a class picked at random", unit="share",
        minimum=0.0, maximum=1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Augmentation: random changes of training sub-volumes; image and label always move together."""

    flip: float = option(0.5, "probability of mirroring left and right", unit="probability", minimum=0, maximum=1)
    affine: float = option(0.0, "probability of a rotation with scaling", unit="probability", minimum=0, maximum=1)
    rotation_deg: float = option(15.0, "largest rotation about each axis", unit="degrees", minimum=0, maximum=180)
    scaling: float = option(0.15, "largest relative change of size", unit="share", minimum=0, maximum=0.9)
    elastic: float = option(
        0.0, "probability of a smooth elastic deformation", unit="probability", minimum=0, maximum=1
    )
    elastic_voxels: float = option(2.0, "standard deviation of its displacements", unit="voxels", minimum=0, maximum=50)
    intensity: float = option(
        0.0, "probability of each of: brightness, contrast, gamma, bias field, blur, low resolution",
        unit="probability", minimum=0, maximum=1,
    )  # fmt: skip
    noise: float = option(
        0.0, "largest standard deviation of added Gaussian noise, relative to the image's", unit="share",
        minimum=0, maximum=10,
    )  # fmt: skip


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Network: architecture and width."""

    model: str = option("unet3d", "architecture: unet3d or vnet", advanced=False)
    channels: tuple[int, ...] = option(
        (), "channels at each resolution, full resolution first; empty: the architecture's own", unit="channels",
        minimum=1, maximum=4096,
    )  # fmt: skip
    convolutions: tuple[int, ...] = option(
        (), "convolutions at each resolution of unet3d, full resolution first, the last number for all below; empty: 2",
        unit="convolutions", minimum=1, maximum=8,
    )  # fmt: skip
    norm: NormLayer = option("batch", "normalisation layer after each convolution")
    activation: Activation = option("relu", "activation after each normalisation")
    downsampling: Downsampling = option("pool", "2x2x2 max pooling or strided convolution")
    widening: Widening = option(
        "before", "where channels double: before down-sampling (Cicek et al.) or after it (nnU-Net)"
    )
    full_resolution: FullResolution = option(
        "level", "what unet3d does there: a level as any other, or only detail, beside a U-Net at half resolution that "
        "the image enters by a stride"
    )  # fmt: skip

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
    """Loss: what training minimises."""

    loss: LossName = option("dice", "multi-class Dice loss, or Dice plus cross-entropy")
    include_background: bool = option(True, "count the background as a class in the Dice loss")
    batch_dice: bool = option(False, "sum over the batch before the ratio, instead of one Dice per sub-volume")
    dice_smooth: float = option(1e-5, "added to numerator and denominator", minimum=0, maximum=1e6)


@dataclass(frozen=True)
class OptimConfig(Checked):
    """Optimisation: steps through weight space."""

    optimizer: OptimizerName = option("sgd", "update rule")
    learning_rate: float = option(1e-3, "learning rate at its highest", minimum=1e-12, maximum=100, advanced=False)
    momentum: float = option(0.0, "momentum of sgd and rmsprop", minimum=0, maximum=0.9999)
    weight_decay: float = option(1e-8, "weight decay (decoupled for adamw, L2 for the others)", minimum=0, maximum=10)
    lr_schedule: LrSchedule = option("constant", "how the learning rate changes over the run")
    warmup: float = option(
        0.0, "share of the run in which the learning rate rises", unit="share", minimum=0, maximum=0.5
    )
    accumulate: int = option(
        1, "batches whose gradients make one update: the effect of a larger batch without its memory",
        unit="batches", minimum=1, maximum=1024,
    )  # fmt: skip
    clip_norm: float = option(0.0, "largest norm of the gradient; 0: no limit", minimum=0, maximum=1e9)
    ema: float = option(0.0, "decay of the running average of the weights; 0: none", minimum=0, maximum=0.99999)


@dataclass(frozen=True)
class ValidationConfig(Checked):
    """Validation and prediction: when held-out subjects are segmented as whole volumes, and how."""

    whole_every: int = option(
        10, "epochs between whole-volume validations (one is always made at the end); 0: never", unit="epochs",
        minimum=0, maximum=10**6,
    )  # fmt: skip
    overlap: float = option(
        0.5, "overlap of neighbouring sub-volumes when a whole volume is joined", unit="share", minimum=0, maximum=0.9
    )  # fmt: skip
    mirror: bool = option(False, "segment the mirror image (left and right) too and take the mean of both")
    inference_mode: InferenceMode = option(
        "auto", "join sub-volumes (tiles), one pass over the whole volume, or whichever held-out Dice prefers"
    )
    patience: int = option(
        0, "end early when the smoothed Dice of held-out whole volumes has not grown for so many validations; 0: never",
        unit="validations", minimum=0, maximum=10**6,
    )  # fmt: skip

    def check(self) -> None:
        if self.patience and not self.whole_every:
            raise ConfigError(
                f"patience: expected 0 where whole_every is 0, got {self.patience}; whole volumes must be validated"
            )


@dataclass(frozen=True)
class RunConfig(Checked):
    """Run: how long, on what, from where."""

    epochs: int = option(100, "number of epochs", minimum=1, maximum=10**6, unit="epochs", advanced=False)
    minutes: float = option(
        0.0, "time budget: the learning rate is fitted to it and training ends within it; 0: by epochs",
        unit="minutes", minimum=0, maximum=10**6, advanced=False,
    )  # fmt: skip
    device: Device = option("auto", "where to train", advanced=False)
    devices: int = option(
        1, "GPUs of this machine that train together (on a CPU: processes), each on its own batches; gradients are "
        "averaged, as accumulate averages them", unit="devices", minimum=1, maximum=64,
    )  # fmt: skip
    precision: Precision = option("auto", "bf16 mixed precision where the device has it, or fp32")
    seed: int = option(0, "seed of weights, sub-volumes and augmentation", minimum=0, maximum=2**31 - 1)
    deterministic: bool = option(
        False, "bit for bit the same weights for the same seed, build, threads and device; slower on a GPU"
    )
    acceleration: Acceleration = option(
        "auto",
        "how a step is launched: as it is (none), torch.compile, a CUDA graph, both, or what proves to be faster",
    )
    threads: int = option(0, "CPU threads; 0: all cores", minimum=0, maximum=1024)
    init_from: str = option(
        "", "checkpoint whose weights training starts from: a run, a file, or another program's PyTorch file (.pth)"
    )
    checkpoint_minutes: float = option(
        5.0, "longest time between checkpoints; one is also written after every validation", unit="minutes",
        minimum=0.01, maximum=10**4,
    )  # fmt: skip
    keep_every: int = option(
        0, "epochs between checkpoints that are kept for good, beside last and best; 0: none", unit="epochs",
        minimum=0, maximum=10**6,
    )  # fmt: skip

    def check(self) -> None:
        if self.deterministic and self.minutes:
            raise ConfigError(
                f"deterministic: expected a number of epochs, got a budget of {self.minutes:g} minutes; a run that "
                "ends by the clock is no two times the same: choose --epochs (or --minutes 0)"
            )
        if self.devices > 1 and self.acceleration in ("graph", "compiled_graph"):
            raise ConfigError(
                f"acceleration: expected none, compile or auto on {self.devices} devices, got {self.acceleration}; a "
                "graph is recorded on one device"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, by section. ``preset`` only records where the values came from."""

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
        """Return a copy with leaf fields replaced: ``{"learning_rate": 0.01, "fold": 2}``.

        Raises
        ------
        ConfigError
            If a name is no field or a value is not allowed.
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
        """How many sub-volumes make one update of the weights, on all devices together."""
        return self.sampling.batch_size * self.optim.accumulate * self.run.devices

    def values(self) -> dict[str, Any]:
        """All leaf fields as one flat dictionary."""
        return {spec.name: getattr(getattr(self, spec.section), spec.name) for spec in field_specs()}

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values, by section, with the format's version."""
        return {"version": FORMAT_VERSION, **json.loads(json.dumps(dataclasses.asdict(self)))}

    @classmethod
    def from_json(cls, data: Any) -> TrainConfig:
        """Read what :meth:`to_json` wrote; missing fields take their defaults.

        Raises
        ------
        ConfigError
            If it is not such a dictionary, comes from a newer version, or holds an unknown field or value.
        """
        if not isinstance(data, dict) or not isinstance(data.get("version"), int):
            raise ConfigError("expected a configuration (an object with a version); the file is damaged or another's")
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
    """Every leaf field of :class:`TrainConfig`, in order."""
    hints = typing.get_type_hints(TrainConfig)
    sections = [f.name for f in fields(TrainConfig) if f.name != "preset"]
    return tuple(spec for name in sections for spec in specs_of(hints[name], section=name))


def section_titles() -> dict[str, tuple[str, str]]:
    """``{section: (title, one sentence)}`` from the sections' docstrings, in order."""
    hints = typing.get_type_hints(TrainConfig)
    titles = {}
    for f in fields(TrainConfig):
        if f.name != "preset":
            title, _, sentence = (hints[f.name].__doc__ or "").strip().partition(": ")
            titles[f.name] = (title, sentence[:1].upper() + sentence[1:])
    return titles


def changed_fields(config: TrainConfig, base: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """``{field: (value in base, value in config)}`` for the fields that differ."""
    mine, theirs = config.values(), base.values()
    return {name: (theirs[name], mine[name]) for name in mine if mine[name] != theirs[name]}
