"""Sections of the configuration about a run: validation and prediction, duration, device and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from core import choices
from core.choices import Acceleration, Device, InferenceMode, Precision
from core.errors import ConfigError
from core.fields import Checked, option


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
        special_word="never",
        searchable=False,
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
        special_word="never",
        searchable=False,
    )

    def check(self) -> None:
        if self.patience and not self.whole_every:
            raise ConfigError(
                f"patience: expected 0 where whole_every is 0, got {self.patience}; whole volumes must be validated"
            )


@dataclass(frozen=True)
class RunConfig(Checked):
    """Run: duration, device, seed and checkpoints."""

    epochs: int = option(
        100, "Epochs", "number of epochs", minimum=1, maximum=10**6, unit="epochs", advanced=False, searchable=False
    )
    minutes: float = option(
        0.0,
        "Time budget",
        "time budget from the first step on; the learning-rate schedule is fitted to it; 0: train for the number of "
        "epochs",
        unit="minutes",
        minimum=0,
        maximum=10**6,
        advanced=False,
        special_word="none",
        searchable=False,
    )
    device: Device = option(
        "auto",
        "Device",
        "device; auto: CUDA if available",
        advanced=False,
        texts=choices.DEVICE_WORDS,
        searchable=False,
    )
    devices: int = option(
        1,
        "Number of devices",
        "number of GPUs (on a CPU: processes) for data-parallel training; gradients are averaged as with accumulate",
        unit="devices",
        minimum=1,
        maximum=64,
        searchable=False,
    )
    precision: Precision = option(
        "auto",
        "Precision",
        "auto: mixed precision in bf16 where the device computes in it, in fp16 with a gradient scaler on GPUs that do "
        "not (T4, V100, RTX 20xx), else fp32",
        texts=choices.PRECISION_WORDS,
    )
    seed: int = option(
        0, "Seed", "seed of weights, sub-volumes and augmentation", minimum=0, maximum=2**31 - 1, searchable=False
    )
    deterministic: bool = option(
        False,
        "Bit-for-bit repeatable",
        "bit-for-bit the same weights for the same seed, torch build, threads and device; slower on a GPU",
        searchable=False,
    )
    acceleration: Acceleration = option(
        "auto",
        "Launch of training steps",
        "launch of training steps: eager (none), torch.compile, a CUDA graph, both, or the fastest (auto)",
        texts=choices.ACCELERATION_WORDS,
    )
    threads: int = option(
        0,
        "CPU threads",
        "CPU threads; 0: all cores",
        minimum=0,
        maximum=1024,
        special_word="all cores",
        searchable=False,
    )
    init_from: str = option(
        "",
        "Initial weights",
        "initial weights: a run, a checkpoint, or a PyTorch file of another program (.pth)",
        searchable=False,
    )
    checkpoint_minutes: float = option(
        5.0,
        "Checkpoint at least every",
        "longest time between checkpoints; one is also written after every validation",
        unit="minutes",
        minimum=0.01,
        maximum=10**4,
        searchable=False,
    )
    keep_every: int = option(
        0,
        "Keep a checkpoint every",
        "epochs between checkpoints that are kept, besides last and best; 0: none",
        unit="epochs",
        minimum=0,
        maximum=10**6,
        special_word="none",
        searchable=False,
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
