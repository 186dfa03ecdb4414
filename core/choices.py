"""Values of the configuration's choice fields: as stored and typed, and in words as forms show them.

A value without words appears as it is, with spaces for underscores.
"""

from __future__ import annotations

from typing import Literal, get_args

Normalisation = Literal["auto", "ct", "max_min", "full_volume_mean", "brats", "max", "mean", "z_score"]
Resample = Literal["none", "median"]
Targets = Literal["auto", "labels", "regions"]
MissingModalities = Literal["refuse", "leave_out", "zero"]
NormLayer = Literal["batch", "instance", "group"]
Activation = Literal["relu", "leaky_relu", "prelu"]
Downsampling = Literal["pool", "stride"]
Widening = Literal["before", "after"]
FullResolution = Literal["level", "detail"]
ResNetDepth = Literal["10", "18", "34", "50"]
LossName = Literal[
    "dice", "generalised_dice", "dice_ce", "bce_dice", "ce", "weighted_ce", "focal", "dice_focal", "tversky",
    "tags_angular", "boundary", "cldice", "vae",
]  # fmt: skip
OptimizerName = Literal["sgd", "adam", "rmsprop", "adamw", "muon"]
LrSchedule = Literal["constant", "cosine", "poly", "one_cycle", "trapezoid"]
Device = Literal["auto", "cuda", "mps", "xpu", "cpu"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
InferenceMode = Literal["auto", "tiles", "whole"]
Lateral = Literal["auto", "swap", "off", "ignore"]
Acceleration = Literal["auto", "none", "compile", "graph", "compiled_graph"]

DEVICES = tuple(name for name in get_args(Device) if name != "auto")  # kinds of device, as torch names them

NORMALISATION_WORDS = {
    "auto": "automatic",
    "ct": "CT, Hounsfield units",
    "max_min": "minimum to maximum",
    "full_volume_mean": "mean of the full volume",
    "brats": "BraTS",
    "max": "maximum",
    "z_score": "z-score",
}
TARGETS_WORDS = {
    "auto": "automatic",
    "labels": "classes that exclude each other",
    "regions": "regions that may overlap",
}
MISSING_MODALITIES_WORDS = {
    "refuse": "an error",
    "leave_out": "left out",
    "zero": "the missing image is 0 everywhere",
}
RESAMPLE_WORDS = {"median": "to the median voxel size"}
NORM_LAYER_WORDS = {"batch": "batch norm", "instance": "instance norm", "group": "group norm"}
ACTIVATION_WORDS = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "prelu": "PReLU"}
DOWNSAMPLING_WORDS = {"pool": "max pooling", "stride": "strided convolution"}
WIDENING_WORDS = {"before": "before down-sampling", "after": "after down-sampling"}
RESNET_DEPTH_WORDS = {"10": "10 layers", "18": "18 layers", "34": "34 layers", "50": "50 layers"}
FULL_RESOLUTION_WORDS = {"level": "a full level", "detail": "a shallow detail branch"}
LOSS_NAME_WORDS = {
    "dice": "Dice",
    "generalised_dice": "generalised Dice",
    "dice_ce": "Dice and cross-entropy",
    "bce_dice": "Dice and binary cross-entropy",
    "ce": "cross-entropy",
    "weighted_ce": "weighted cross-entropy",
    "dice_focal": "Dice and focal",
    "tversky": "Tversky",
    "tags_angular": "angular",
    "boundary": "Dice and boundary",
    "cldice": "Dice and clDice (centre lines)",
    "vae": "Dice and reconstruction (VAE)",
}
OPTIMIZER_NAME_WORDS = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop", "adamw": "AdamW", "muon": "Muon"}
LR_SCHEDULE_WORDS = {"poly": "polynomial", "one_cycle": "one cycle"}
DEVICE_WORDS = {"auto": "automatic", "cuda": "CUDA", "mps": "Apple GPU (MPS)", "xpu": "Intel GPU (XPU)", "cpu": "CPU"}
PRECISION_WORDS = {"auto": "automatic"}
INFERENCE_MODE_WORDS = {"auto": "automatic", "tiles": "sliding window", "whole": "whole volume in one pass"}
LATERAL_WORDS = {
    "auto": "automatic",
    "swap": "swap when mirrored",
    "off": "do not mirror",
    "ignore": "mirror, keep labels",
}
ACCELERATION_WORDS = {
    "auto": "automatic",
    "none": "eager",
    "compile": "torch.compile",
    "graph": "CUDA graph",
    "compiled_graph": "torch.compile and CUDA graph",
}
