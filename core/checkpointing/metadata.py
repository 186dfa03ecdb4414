"""What is in a checkpoint and what it needs, read without torch: the text beside the tensors of a safetensors file.

The description (:class:`Description`) says what the network is, what it was trained on, and how an image must be
prepared for it, so a checkpoint can be used on its own. :mod:`core.checkpointing.checkpoint` writes it and reads the tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.errors import CheckpointError, UserError
from core.labels import LabelSpace
from core.types import SpacingMm

FORMAT_VERSION = 1
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"  # in the folder of a run
KEY = "segmentarium"
ZIP = b"PK\x03\x04"
PICKLED = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"  # the number with which PyTorch began its files before 1.6
FOREIGN_ENDINGS = (".pth", ".pt", ".tar", ".ckpt", ".bin")
JSON_KINDS = dict(config=dict, labels=list, modalities=list, progress=dict, inference=dict, dataset=dict, split=dict)


@dataclass(frozen=True)
class Description:
    """What is in a checkpoint and what it needs.

    Attributes
    ----------
    config : the run's configuration as JSON, with everything that was decided from the data filled in.
    labels : the label space as JSON; its order is the network's output order.
    modalities : names of the input channels, in order.
    spacing_mm : voxel size that images are brought to, or ``None`` for their own.
    progress : epoch, step, elapsed_s, best, and the like; plain JSON.
    inference : chosen mode and tile size.
    dataset : name, whether it is synthetic, its licence.
    split : ids of the subjects for train, val and test.
    """

    config: dict[str, Any]
    labels: list[dict[str, Any]]
    modalities: tuple[str, ...]
    spacing_mm: SpacingMm | None
    progress: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    @property
    def train_config(self) -> TrainConfig:
        return TrainConfig.from_json(self.config)

    @property
    def label_space(self) -> LabelSpace:
        return LabelSpace.from_json(self.labels)


def read_description(path: Path) -> Description:
    """Read only the description (a few kilobytes).

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no checkpoint of ours.
    """
    with open_tensors(path, "numpy") as file:
        return describe(path, file.metadata())


def open_tensors(path: Path, framework: str) -> Any:
    """Open a safetensors file for tensors of "pt" (torch) or "numpy"; its header is checked, no tensor is read.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint, found no file {path}")
    try:
        return safe_open(str(path), framework=framework, device="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if is_foreign(path):
            raise CheckpointError(
                f"{path} is not a checkpoint of Segmentarium but a PyTorch file: nothing in it says what its channels "
                "and classes mean and at what voxel size it works; train from its weights: "
                f"python -m core train DATA --init-from {path}"
            ) from error
        raise CheckpointError(
            f"{path} is not a checkpoint (expected safetensors), or it is damaged: {error}"
        ) from error


def is_foreign(path: Path) -> bool:
    """Whether a file is another program's checkpoint, a PyTorch file, by its first bytes or else its name."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        start = b""
    if start[8:9] == b"{":  # a safetensors file, whatever its name
        return False
    return start.startswith((ZIP, PICKLED)) or path.name.lower().endswith(FOREIGN_ENDINGS)


def describe(path: Path, metadata: Mapping[str, str] | None) -> Description:
    """The description in the metadata of a safetensors file; ``path`` is named in errors.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged or from a newer version.
    """
    text = (metadata or {}).get(KEY)
    if text is None:
        raise CheckpointError(f"{path} is a safetensors file, but not one of Segmentarium's: it has no description")
    try:
        data = json.loads(text)
        version = int(data["version"])
        if version > FORMAT_VERSION:
            raise CheckpointError(f"it has format {version}, this program reads up to {FORMAT_VERSION}: update it")
        description = Description(**data)
        for name, kind in JSON_KINDS.items():
            if not isinstance(getattr(description, name), kind):
                raise TypeError(f"{name} is no {kind.__name__}")
        modalities, spacing = tuple(str(m) for m in data["modalities"]), data["spacing_mm"]
        if not modalities:
            raise ValueError("no modalities")
        if spacing is not None:
            i, j, k = (float(v) for v in spacing)
            spacing = (i, j, k)
            if not all(math.isfinite(v) and v > 0 for v in spacing):
                raise ValueError(f"spacing_mm is {spacing}")
        description = replace(description, modalities=modalities, spacing_mm=spacing)
        description.train_config, description.label_space  # noqa: B018 - both validate
    except UserError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description is damaged ({error})") from error
    return description
